"""Judging sound: distances, a tagger, adherence, diversity, codec error, contact sheets."""
