"""The measuring suite: what is timed (``plan``), by what (``host``, ``cuda``), and where rows go (``record``)."""
