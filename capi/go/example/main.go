// SPDX-License-Identifier: MIT
package main

import (
	"fmt"
	"log"

	"bn2d"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	const n, c, h, w = 8, 64, 32, 32 // contiguous NCHW
	x, dy := make([]float32, n*c*h*w), make([]float32, n*c*h*w)
	y, dx := make([]float32, n*c*h*w), make([]float32, n*c*h*w)
	for i := range x {
		x[i], dy[i] = float32(i%251)/100, 0.5
	}

	bn, err := bn2d.New(c, bn2d.Eps(1e-5))
	check(err)
	defer bn.Close()
	record, err := bn2d.Forward(bn, x, n, h, w, y) // training
	check(err)
	check(bn2d.Backward(bn, record, dy, dx)) // adds to weight.grad and bias.grad
	record.Close()                           // or the garbage collector does
	check(bn.Eval())
	check(bn2d.Infer(bn, x, n, h, w, y)) // running statistics
	grad, err := bn2d.Get[float32](bn, "bias.grad")
	check(err)
	fmt.Printf("%v: bias.grad %v, y %.4f\n", bn, grad[0], y[0])
}
