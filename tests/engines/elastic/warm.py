"""Imported once by the server that forks the workers of the tests."""

from tests.engines.elastic.worker import warm_up

warm_up()
