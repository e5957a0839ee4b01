module bn2d

go 1.18
