"""Fetching the benchmarks' data: resumable downloads, pinned checksums, archives that cannot escape their folder."""
