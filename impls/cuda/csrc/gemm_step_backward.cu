// The pointwise part of a time step, backward, of some rows of the batch in one direction, after a GEMM has multiplied the gate
// gradients of the step after it by W_hh; one launch more (`step` = −1) for the gradient of h0. A thread takes WIDTH units
// side by side of one row, as in gemm_step_forward.cu. Contract: docs/cuda.md.
//
// Compile-time: STORAGE, WIDTH, THREADS, SHARED_BYTES.
#define BLOCKS_OF_SM 4
#include "storage.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;
using R = Row<S, WIDTH>;

static_assert(SHARED_BYTES == 0);

struct Direction {
    const Value* gates;     // [rows][4][H], of this step, after their nonlinearities, or before them where `recompute`
    const float* cells;     // [rows][H], of this step
    const float* c_before;  // [rows][H]; null: zeros
    const Value* grad_y;    // [rows][y_stride], of this step
    const Value* product;   // [rows][H], what the step after this one sends to h; null: nothing
    const int* lengths;     // [rows]; null: all live
    Value* grad_gates;      // [rows][4][H], of the preactivations
    const float* grad_h;    // [rows][H], what reaches h beside that; null: nothing
    const float* grad_c;    // [rows][H], what reaches c; null: nothing
    float* grad_h_next;     // [rows][H], may be that of before: what passes by this step, in the end that of h0; null: nothing does
    float* grad_c_next;     // [rows][H], may be that of before
    long long reverse;      // not read: `step` is a place in time
};
struct Arguments {
    Direction directions[2];  // the first alone
    int rows, hidden, y_stride, step, recompute;
};

KERNEL(lstm_gemm_step_backward, Arguments) {
    const Direction& d = launch.directions[0];
    const int hidden = launch.hidden, of_row = hidden / WIDTH, own = grid_column() * THREADS + thread_index();
    const int row = own / of_row, unit = own % of_row * WIDTH;
    if (row >= launch.rows) return;
    const long long state = (long long)row * hidden + unit, gates_at = (long long)row * 4 * hidden + unit;
    typename R::Wide into_h, carried;
    R::read(d.product ? d.product + state : nullptr, into_h);
    R::read_float(d.grad_h ? d.grad_h + state : nullptr, carried);
    UNROLL for (int u = 0; u < WIDTH; ++u) into_h[u] += carried[u];
    if (launch.step < 0) {
        R::write_float(d.grad_h_next + state, into_h);
        return;
    }
    const Value* const at = d.gates + gates_at;
    typename R::Wide i, f, g, o, c, c_before, into_c, grad_y;
    R::read(at, i), R::read(at + hidden, f), R::read(at + 2 * hidden, g), R::read(at + 3 * hidden, o);
    R::read_float(d.cells + state, c);
    R::read_float(d.c_before ? d.c_before + state : nullptr, c_before);
    R::read_float(d.grad_c ? d.grad_c + state : nullptr, into_c);
    R::read(d.grad_y + (long long)row * launch.y_stride + unit, grad_y);
    const bool live = !d.lengths || launch.step < global_read(d.lengths + row);
    UNROLL for (int u = 0; u < WIDTH; ++u) {
        Gates4 v = {i[u], f[u], g[u], o[u]};
        if (launch.recompute) v = lstm_activate<S>(v);
        // Beyond its length y is a constant zero, whatever gradient it is given.
        const LstmGradient<Gates4, float> sent = lstm_backward<S>(v, c[u], c_before[u], into_h[u] + grad_y[u], into_c[u]);
        i[u] = live ? sent.preactivations.i : 0.0f, f[u] = live ? sent.preactivations.f : 0.0f;
        g[u] = live ? sent.preactivations.g : 0.0f, o[u] = live ? sent.preactivations.o : 0.0f;
        into_c[u] = live ? sent.c_before : into_c[u];
        into_h[u] = live ? 0.0f : into_h[u];
    }
    Value* const to = d.grad_gates + gates_at;
    R::write(to, i), R::write(to + hidden, f), R::write(to + 2 * hidden, g), R::write(to + 3 * hidden, o);
    R::write_float(d.grad_c_next + state, into_c);
    if (d.grad_h_next) R::write_float(d.grad_h_next + state, into_h);
}
