"""Side-by-side measurements, each a `make bench-…`. A ratio of one run means something; a lone figure does not."""
