"""Search algorithms, one a file: each proposes networks and is told what became of them."""
