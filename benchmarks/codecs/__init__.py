"""Codecs of several latent rates and heads, trained alike and judged alike."""
