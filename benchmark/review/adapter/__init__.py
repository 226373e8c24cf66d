"""What a submission must withstand: the checks behind `advbench check`, as a library that the test suite calls, too."""
