// The pointwise part of a time step, forward, of some rows of the batch in one direction, after a GEMM has added W_hh h to the
// input product. A thread takes WIDTH units side by side of one row: 16 bytes of a gate, or one unit where H is no multiple of
// them. Contract: docs/cuda.md.
//
// Compile-time: STORAGE, WIDTH, THREADS, SHARED_BYTES.
#define BLOCKS_OF_SM 4
#include "storage.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;
using R = Row<S, WIDTH>;

static_assert(SHARED_BYTES == 0);

struct Direction {
    Value* gates;        // [rows][4][H]: preactivations; the gates in their place where `save`
    const float* c;      // [rows][H], before this step; null: zeros
    float* c_next;       // [rows][H], may be that of before
    const Value* h;      // [rows][H], before this step; null: zeros
    Value* h_next;       // [rows][H], may be that of before; null: nobody needs it beside y
    const int* lengths;  // [rows]; null: all live
    Value* y;            // [rows][y_stride], of this step
    float* cells;        // [rows][H], of this step, or null
    long long reverse;   // not read: `step` is a place in time
};
struct Arguments {
    Direction directions[2];  // the first alone
    int rows, hidden, y_stride, step, save;
};

KERNEL(lstm_gemm_step_forward, Arguments) {
    const Direction& d = launch.directions[0];
    const int hidden = launch.hidden, of_row = hidden / WIDTH, own = grid_column() * THREADS + thread_index();
    const int row = own / of_row, unit = own % of_row * WIDTH;
    if (row >= launch.rows) return;
    const long long state = (long long)row * hidden + unit;
    Value* const at = d.gates + (long long)row * 4 * hidden + unit;
    typename R::Wide i, f, g, o, c, h;
    R::read(at, i), R::read(at + hidden, f), R::read(at + 2 * hidden, g), R::read(at + 3 * hidden, o);
    R::read_float(d.c ? d.c + state : nullptr, c);
    const bool live = !d.lengths || launch.step < global_read(d.lengths + row);
    UNROLL for (int u = 0; u < WIDTH; ++u) {
        const Gates4 gate = lstm_activate<S, Gates4>({i[u], f[u], g[u], o[u]});
        const LstmState<float> after = lstm_forward<S>(gate, c[u]);
        i[u] = gate.i, f[u] = gate.f, g[u] = gate.g, o[u] = gate.o;
        c[u] = live ? after.c : c[u];
        h[u] = live ? after.h : 0.0f;
    }
    if (launch.save) R::write(at, i), R::write(at + hidden, f), R::write(at + 2 * hidden, g), R::write(at + 3 * hidden, o);
    R::write_float(d.c_next + state, c);
    R::write(d.y + (long long)row * launch.y_stride + unit, h);
    if (d.cells) R::write_float(d.cells + state, c);
    if (!d.h_next) return;
    if (!live) R::read(d.h ? d.h + state : nullptr, h);
    R::write(d.h_next + state, h);
}
