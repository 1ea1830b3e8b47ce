"""Shared fixtures: process-wide MindSpore state is set once here and restored where a test changes it."""
