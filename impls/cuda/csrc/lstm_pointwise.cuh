// The pointwise part of an LSTM step for one unit and one column, forward and backward: what every kernel does between products.
//
// S: the nonlinearities, Stored<…> of storage.cuh or Exact<…> of exact.cuh. Four: a value a gate, i, f, g, o. Wide: float or
// double. With z = W_ih x + b + W_hh h_before:
//
//   i, f, o = σ(z_i), σ(z_f), σ(z_o);  g = tanh(z_g);  c = f·c_before + i·g;  h = o·tanh(c)
#pragma once
#include "device.cuh"

// The gates from their preactivations.
template <class S, class Four> DEVICE Four lstm_activate(const Four& z) {
    return {S::sigmoid(z.i), S::forget_sigmoid(z.f), S::tanh(z.g), S::sigmoid(z.o)};
}

// The gates from the recurrent product and the input product (with the bias).
template <class S, class Four> DEVICE Four lstm_gates(const Four& recurrent, const Four& projected) {
    return lstm_activate<S, Four>({recurrent.i + projected.i, recurrent.f + projected.f, recurrent.g + projected.g,
                                   recurrent.o + projected.o});
}

template <class Wide> struct LstmState {
    Wide c, h;  // h before it is rounded to storage
};
template <class S, class Four, class Wide> DEVICE LstmState<Wide> lstm_forward(const Four& gate, Wide c_before) {
    const Wide c = gate.f * c_before + gate.i * gate.g;
    return {c, gate.o * S::tanh(c)};
}

// What the gradients need and nothing of them: of.i, of.f and of.g times the gradient of c, and of.o times that of h, are
// those of the preactivations.
template <class Four, class Wide> struct LstmDerivatives {
    Four of;
    Wide c_of_h, c_of_c_before;
};
template <class S, class Four, class Wide> DEVICE LstmDerivatives<Four, Wide> lstm_derivatives(const Four& gate, Wide c, Wide c_before) {
    const Wide tanh_c = S::tanh(c);
    return {{gate.g * gate.i * (1 - gate.i), c_before * gate.f * (1 - gate.f), gate.i * (1 - gate.g * gate.g),
             tanh_c * gate.o * (1 - gate.o)},
            gate.o * (1 - tanh_c * tanh_c), gate.f};
}

template <class Four, class Wide> struct LstmGradient {
    Four preactivations;
    Wide c_before;
};
// grad_h and grad_c: what later steps (and y) send to h and c.
template <class Four, class Wide>
DEVICE LstmGradient<Four, Wide> lstm_gradient(const LstmDerivatives<Four, Wide>& d, Wide grad_h, Wide grad_c) {
    const Wide into_c = grad_c + grad_h * d.c_of_h;
    return {{into_c * d.of.i, into_c * d.of.f, into_c * d.of.g, grad_h * d.of.o}, into_c * d.c_of_c_before};
}
template <class S, class Four, class Wide>
DEVICE LstmGradient<Four, Wide> lstm_backward(const Four& gate, Wide c, Wide c_before, Wide grad_h, Wide grad_c) {
    return lstm_gradient(lstm_derivatives<S>(gate, c, c_before), grad_h, grad_c);
}
