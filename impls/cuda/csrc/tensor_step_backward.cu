// Per-step kernel on tensor cores, backward: one time step of a layer, from the last to the first, and one launch more (step =
// steps) for the gradient of h0. A block computes dh of 16 units of TILES · 8 columns, then their gate gradients; its SPLIT
// warps share the product with the gate gradients of the launch before. Contract: docs/cuda.md.
//
// Compile-time: STORAGE, TILES, SPLIT, THREADS, SHARED_BYTES.
#define BLOCKS_OF_SM 4
#include "storage.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;
using Gates = S::Gates;

constexpr int COLUMNS = 8 * TILES;
constexpr int PAIR = 16 * S::PER_WORD;  // units of one gate in two k-tiles, of which a lane reads 16 bytes at once
static_assert(THREADS == 32 * SPLIT && TILES <= SPLIT && SHARED_BYTES == SPLIT * TILES * 32 * 16);

struct Direction {
    const uint4* weights;   // [⌈H/16⌉][4 gates][⌈H/PAIR⌉][2 k-tiles][32]
    const Value* gates;     // [T][B][4][H], after their nonlinearities, or before them where `recompute`
    const float* cells;     // [T][B][H]
    const float* c0;        // [B][H]; null: zeros
    const Value* grad_y;    // [T][B][y_stride]
    const int* lengths;     // [B]; null: all T
    Value* grad_gates;      // [T][B][4][H], of the preactivations
    const float* grad_h;    // [B][H], as the launch before left it; at the first that of h_n, null: zeros
    const float* grad_c;    // [B][H], the same of c
    float* grad_h_next;     // [B][H], may be that of before; in the end that of h0
    float* grad_c_next;     // [B][H], the same; in the end that of c0
    long long reverse;
};
struct Arguments {
    Direction directions[2];
    int steps, batch, hidden, y_stride, recompute, step;
};

DEVICE unsigned scratch(int part, int tile, int lane) { return ((part * TILES + tile) * 32 + lane) * 16; }

// 16 bytes of one gate's gradients of a column, those of neighbouring units; zero beyond H.
DEVICE uint4 read_operand(const Value* from, int left, bool aligned) {
    if (left <= 0) return {};
    if (aligned) return S::operand_words(global_read(reinterpret_cast<const uint4*>(from)));
    const auto word = [&](int w) {
        if constexpr (S::PER_WORD == 2) {
            const Word first = 2 * w < left ? global_read(from + 2 * w) : 0;
            return first | (2 * w + 1 < left ? Word(global_read(from + 2 * w + 1)) << 16 : 0u);
        } else {
            return w < left ? round_tensorfloat32(global_read(from + w)) : 0u;
        }
    };
    return {word(0), word(1), word(2), word(3)};
}

KERNEL(lstm_tensor_step_backward, Arguments) {
    const Direction& d = launch.directions[grid_layer()];
    const int thread = thread_index(), lane = thread & 31, part = thread >> 5, row = lane >> 2, pair = lane & 3;
    const int batch = launch.batch, hidden = launch.hidden, steps = launch.steps, pairs = (hidden + PAIR - 1) / PAIR;
    const int first_unit = grid_column() * 16, first_column = grid_row() * COLUMNS;
    const int t = d.reverse ? launch.step : steps - 1 - launch.step;
    const int after = d.reverse ? t - 1 : t + 1, before = d.reverse ? t + 1 : t - 1;

    const bool aligned = hidden % (4 * S::PER_WORD) == 0;
    float sum[TILES][4] = {};
    for (int k = part; k < 4 * pairs && launch.step > 0; k += SPLIT) {
        const int gate = k / pairs, of_lane = k % pairs * PAIR + pair * 4 * S::PER_WORD;
        const Value* const grads = d.grad_gates + (((long long)after * batch + first_column + row) * 4 + gate) * hidden + of_lane;
        const uint4* const weights = d.weights + ((long long)grid_column() * 4 * pairs + k) * 2 * 32 + lane;
        const uint4 u = global_read(weights), v = global_read(weights + 32);
        const Word first[4] = {u.x, u.y, u.z, u.w}, second[4] = {v.x, v.y, v.z, v.w};
        UNROLL for (int tile = 0; tile < TILES; ++tile) {
            const int n = first_column + tile * 8 + row;
            uint4 b{};
            if (n < batch)
                b = read_operand(grads + tile * 32 * hidden, hidden - of_lane, aligned);
            S::multiply(sum[tile], first, b.x, b.y);
            S::multiply(sum[tile], second, b.z, b.w);
        }
    }
    UNROLL for (int tile = 0; tile < TILES; ++tile) {
        const float(&s)[4] = sum[tile];
        shared_write(scratch(part, tile, lane), float4{s[0], s[1], s[2], s[3]});
    }
    block_barrier();
    if (part >= TILES) return;

    // From here on a warp has one column tile: a lane two columns of units `row` and `row + 8`.
    float from_later[4] = {};
    UNROLL for (int from = 0; from < SPLIT; ++from) {
        const float4 s = shared_read<float4>(scratch(from, part, lane));
        from_later[0] += s.x, from_later[1] += s.y, from_later[2] += s.z, from_later[3] += s.w;
    }
    UNROLL for (int r = 0; r < 4; ++r) {
        const int n = first_column + part * 8 + pair * 2 + (r & 1), unit = first_unit + row + 8 * (r >> 1);
        if (n >= batch || unit >= hidden) continue;
        const long long state = (long long)n * hidden + unit;
        float into_h = (d.grad_h ? global_read(d.grad_h + state) : 0.0f) + from_later[r];
        if (launch.step == steps) {
            global_write(d.grad_h_next + state, into_h);
            continue;
        }
        const long long token = (long long)t * batch + n, at = token * hidden + unit;
        const long long gates_at = token * 4 * hidden + unit;
        Gates4 v = S::wide_gates(S::read_gates(d.gates + gates_at, hidden));
        if (launch.recompute) v = lstm_activate<S>(v);
        const bool live = t < (d.lengths ? global_read(d.lengths + n) : steps), last = launch.step + 1 == steps;
        float c_before = 0.0f;
        if (!last) c_before = global_read(d.cells + ((long long)before * batch + n) * hidden + unit);
        else if (d.c0) c_before = global_read(d.c0 + state);
        // Beyond its length y is a constant zero, whatever gradient it is given.
        if (live) into_h += S::wide(global_read(d.grad_y + token * launch.y_stride + unit));
        const float c = global_read(d.cells + at), from_above = d.grad_c ? global_read(d.grad_c + state) : 0.0f;
        const LstmGradient<Gates4, float> sent = lstm_backward<S>(v, c, c_before, into_h, from_above);
        const Gates grad = S::gates(sent.preactivations);
        S::write_gates(d.grad_gates + gates_at, hidden, live ? grad : Gates{});
        global_write(d.grad_h_next + state, live ? 0.0f : into_h);
        global_write(d.grad_c_next + state, live ? sent.c_before : from_above);
    }
}
