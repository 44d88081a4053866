"""The Flower app of this repository: what ``flwr run .`` starts."""
