module ron

go 1.27
