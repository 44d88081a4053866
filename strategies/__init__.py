"""Flower strategies that plan rounds from predictions. Everything that imports flwr lives here."""
