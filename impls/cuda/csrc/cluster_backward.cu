// Persistent-cluster kernel, backward: the cluster of cluster_forward.cu, from the last step to the first. A block keeps the
// gradients of its own gate rows; its contribution to dh of every unit goes, in float32, to the block that owns the unit (a
// reduce-scatter whose order of summation is fixed). Contract, fragment layout and derivation: docs/cuda.md.
//
// Compile-time: STORAGE, HIDDEN, CLUSTER, TILES, RESIDENT (k-tiles in registers), THREADS, SHARED_BYTES.
#include "storage.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;
using Gates = S::Gates;

constexpr int UNITS = HIDDEN / CLUSTER;
constexpr int OCTETS = UNITS / 8;
constexpr int WARPS = THREADS / 32;
constexpr int ROW_TILES = HIDDEN / 16 / WARPS;                  // of one warp: 16 units each
constexpr int K_TILES = 4 * UNITS / (8 * S::PER_WORD);          // own gate rows
constexpr int SHARED_K_TILES = K_TILES - RESIDENT;
constexpr int OWN_OCTETS = (OCTETS + WARPS - 1) / WARPS;        // a warp's share of the block's units
constexpr int COLUMNS = 8 * TILES;

constexpr unsigned PARTIAL_BYTES = HIDDEN * COLUMNS * 4;        // one float per source block, own unit and column
constexpr unsigned OPERAND = 2 * PARTIAL_BYTES;
constexpr unsigned OPERAND_BYTES = K_TILES * TILES * 64 * 4;
constexpr unsigned TAIL = OPERAND + 2 * OPERAND_BYTES;
constexpr unsigned BARRIERS = TAIL + WARPS * ROW_TILES * SHARED_K_TILES * 32 * 16;
static_assert(SHARED_BYTES == BARRIERS + 16, "the plan and the kernel disagree about shared memory");
static_assert(UNITS % 8 == 0 && ROW_TILES * WARPS * 16 == HIDDEN && SHARED_K_TILES >= 0);

struct Direction {
    const uint4* weights;   // [CLUSTER][WARPS][ROW_TILES][K_TILES][32]
    const Value* gates;     // [T][B][4][H], after their nonlinearities, or before them where `recompute`
    const float* cells;     // [T][B][H]
    const float* c0;        // [B][H]; null: zeros
    const Value* grad_y;    // [T][B][y_stride]
    const float* grad_h_n;  // [B][H]; null: zeros
    const float* grad_c_n;  // [B][H]; null: zeros
    const int* lengths;     // [B]; null: all T
    Value* grad_gates;      // [T][B][4][H], of the preactivations
    float* grad_h0;         // [B][H]
    float* grad_c0;         // [B][H]
    long long reverse;
};
struct Arguments {
    Direction directions[2];
    int steps, batch, hidden, y_stride, recompute;
};

// Where a block finds what block `source` sent for its octet of units: 8 bytes a lane, two octets side by side where the
// sender has both, so that it can send 16.
constexpr bool PAIRED = OCTETS % 2 == 0;
DEVICE unsigned partial_offset(int buffer, int source, int octet, int tile, int lane) {
    const unsigned base = buffer * PARTIAL_BYTES;
    if (PAIRED) return base + (((source * OCTETS / 2 + octet / 2) * TILES + tile) * 32 + lane) * 16 + (octet & 1) * 8;
    return base + ((source * OCTETS + octet) * TILES + tile) * 256 + lane * 8;
}
DEVICE unsigned operand_offset(int buffer, int word, int tile) {
    return OPERAND + buffer * OPERAND_BYTES + (((word >> 3) * TILES + tile) * 2 + ((word >> 2) & 1)) * 128 + (word & 3) * 4;
}

KERNEL(lstm_cluster_backward, Arguments) {
    const Direction& d = launch.directions[grid_row()];
    const int thread = thread_index(), lane = thread & 31, warp = thread >> 5;
    const int row = lane >> 2, pair = lane & 3;
    const int rank = cluster_rank(), first_column = cluster_index() * COLUMNS;
    const int steps = launch.steps, batch = launch.batch, hidden = launch.hidden;

    Word resident[ROW_TILES][RESIDENT > 0 ? RESIDENT : 1][4];
    const uint4* weights = d.weights + ((long long)(rank * WARPS + warp) * ROW_TILES * K_TILES) * 32 + lane;
    // A lane reads back only what it wrote itself.
    const unsigned tail = TAIL + warp * ROW_TILES * SHARED_K_TILES * 512 + lane * 16;
    UNROLL for (int m = 0; m < ROW_TILES; ++m) {
        UNROLL for (int k = 0; k < RESIDENT; ++k) {
            const uint4 v = global_read(weights + (m * K_TILES + k) * 32);
            resident[m][k][0] = v.x, resident[m][k][1] = v.y, resident[m][k][2] = v.z, resident[m][k][3] = v.w;
        }
        for (int k = 0; k < SHARED_K_TILES; ++k)
            shared_write(tail + (m * SHARED_K_TILES + k) * 512, global_read(weights + (m * K_TILES + RESIDENT + k) * 32));
    }

    // State of the units this warp owns; `dh` holds what a frozen sequence carries past its last step.
    float dh[OWN_OCTETS][TILES][2], dc[OWN_OCTETS][TILES][2], cell[OWN_OCTETS][TILES][2];
    int length[TILES][2];
    Gates next_gates[OWN_OCTETS][TILES][2];
    float next_before[OWN_OCTETS][TILES][2], next_grad_y[OWN_OCTETS][TILES][2];

    auto octet_of = [&](int i) { return warp + i * WARPS; };
    auto column_of = [&](int a, int j) { return first_column + a * 8 + pair * 2 + j; };
    auto unit_of = [&](int i) { return rank * UNITS + octet_of(i) * 8 + row; };
    auto valid = [&](int i, int a, int j) { return octet_of(i) < OCTETS && column_of(a, j) < batch && unit_of(i) < hidden; };
    auto time_of = [&](int step) { return d.reverse ? step : steps - 1 - step; };
    // Loads a step ahead of its use: gates, grad_y, and the cell state before it.
    auto fetch = [&](int step) {
        const int t = time_of(step), before = d.reverse ? t + 1 : t - 1;
        UNROLL for (int i = 0; i < OWN_OCTETS; ++i)
            UNROLL for (int a = 0; a < TILES; ++a)
                UNROLL for (int j = 0; j < 2; ++j) {
                    next_gates[i][a][j] = Gates{};
                    next_before[i][a][j] = next_grad_y[i][a][j] = 0.0f;
                    if (!valid(i, a, j)) continue;
                    const int n = column_of(a, j), unit = unit_of(i);
                    const long long token = (long long)t * batch + n;
                    next_gates[i][a][j] = S::read_gates(d.gates + token * 4 * hidden + unit, hidden);
                    next_grad_y[i][a][j] = S::wide(global_read(d.grad_y + token * launch.y_stride + unit));
                    if (step + 1 < steps) next_before[i][a][j] = global_read(d.cells + ((long long)before * batch + n) * hidden + unit);
                    else if (d.c0) next_before[i][a][j] = global_read(d.c0 + (long long)n * hidden + unit);
                }
    };

    UNROLL for (int a = 0; a < TILES; ++a)
        UNROLL for (int j = 0; j < 2; ++j) {
            const int n = column_of(a, j);
            length[a][j] = n >= batch ? 0 : d.lengths ? global_read(d.lengths + n) : steps;
            UNROLL for (int i = 0; i < OWN_OCTETS; ++i) {
                const long long at = (long long)n * hidden + unit_of(i);
                const bool ok = valid(i, a, j);
                dh[i][a][j] = ok && d.grad_h_n ? global_read(d.grad_h_n + at) : 0.0f;
                dc[i][a][j] = ok && d.grad_c_n ? global_read(d.grad_c_n + at) : 0.0f;
                cell[i][a][j] = ok ? global_read(d.cells + (long long)time_of(0) * batch * hidden + at) : 0.0f;
            }
        }
    fetch(0);

    if (thread == 0) {
        for (int b = 0; b < 2; ++b) {
            transfer_init(BARRIERS + 8 * b);
            transfer_expect(BARRIERS + 8 * b, PARTIAL_BYTES);
        }
    }
    // Every block has started and armed its barriers before any other sends to it.
    cluster_barrier();

    // Adds to dh what all blocks sent in `step`.
    auto receive = [&](int step) {
        transfer_wait(BARRIERS + 8 * (step & 1), (step >> 1) & 1);
        if (thread == 0) transfer_expect(BARRIERS + 8 * (step & 1), PARTIAL_BYTES);
        UNROLL for (int i = 0; i < OWN_OCTETS; ++i) {
            if (octet_of(i) >= OCTETS) continue;
            UNROLL for (int a = 0; a < TILES; ++a) {
                float sum[2] = {0.0f, 0.0f};
                UNROLL for (int source = 0; source < CLUSTER; ++source) {
                    const float2 p = shared_read<float2>(partial_offset(step & 1, source, octet_of(i), a, lane));
                    sum[0] += p.x, sum[1] += p.y;
                }
                dh[i][a][0] += sum[0], dh[i][a][1] += sum[1];
            }
        }
    };

    for (int step = 0; step < steps; ++step) {
        const int t = time_of(step), buffer = step & 1;
        if (warp < OCTETS) {
            if (step > 0) receive(step - 1);
            Gates gates[OWN_OCTETS][TILES][2];
            float before[OWN_OCTETS][TILES][2], grad_y[OWN_OCTETS][TILES][2];
            UNROLL for (int i = 0; i < OWN_OCTETS; ++i)
                UNROLL for (int a = 0; a < TILES; ++a)
                    UNROLL for (int j = 0; j < 2; ++j) {
                        gates[i][a][j] = next_gates[i][a][j];
                        before[i][a][j] = next_before[i][a][j];
                        grad_y[i][a][j] = next_grad_y[i][a][j];
                    }
            if (step + 1 < steps) fetch(step + 1);
            UNROLL for (int i = 0; i < OWN_OCTETS; ++i) {
                if (octet_of(i) >= OCTETS) continue;
                UNROLL for (int a = 0; a < TILES; ++a)
                    UNROLL for (int j = 0; j < 2; ++j) {
                        Gates4 v = S::wide_gates(gates[i][a][j]);
                        if (launch.recompute) v = lstm_activate<S>(v);
                        const bool live = t < length[a][j];
                        // Beyond its length y is a constant zero, whatever gradient it is given.
                        const float into_h = dh[i][a][j] + (live ? grad_y[i][a][j] : 0.0f);
                        const auto sent = lstm_backward<S>(v, cell[i][a][j], before[i][a][j], into_h, dc[i][a][j]);
                        Gates grad = S::gates(sent.preactivations);
                        dh[i][a][j] = live ? 0.0f : into_h;
                        dc[i][a][j] = live ? sent.c_before : dc[i][a][j];
                        if (!live) grad = Gates{};
                        cell[i][a][j] = before[i][a][j];
                        const int word = (octet_of(i) * 8 + row) * 4 / S::PER_WORD;
                        shared_write(operand_offset(buffer, word, a) + (pair * 2 + j) * 16, S::operands(grad));
                        if (valid(i, a, j))
                            S::write_gates(d.grad_gates + ((long long)t * batch + column_of(a, j)) * 4 * hidden + unit_of(i), hidden, grad);
                    }
            }
        }
        // The block's gate gradients are in place. They are double-buffered, so this is the only barrier of a step.
        block_barrier();
        UNROLL for (int a = 0; a < TILES; ++a) {
            float sum[ROW_TILES][4] = {};
            UNROLL for (int k = 0; k < K_TILES; ++k) {
                const Word b0 = shared_read<Word>(operand_offset(buffer, k * 8, a) + lane * 4);
                const Word b1 = shared_read<Word>(operand_offset(buffer, k * 8 + 4, a) + lane * 4);
                UNROLL for (int m = 0; m < ROW_TILES; ++m) {
                    if (k < RESIDENT) {
                        S::multiply(sum[m], resident[m][k < RESIDENT ? k : 0], b0, b1);
                    } else {
                        const uint4 v = shared_read<uint4>(tail + (m * SHARED_K_TILES + k - RESIDENT) * 512);
                        S::multiply(sum[m], {v.x, v.y, v.z, v.w}, b0, b1);
                    }
                }
            }
            UNROLL for (int m = 0; m < ROW_TILES; ++m) {
                const int octet = 2 * (warp * ROW_TILES + m);  // of the whole layer
                const uint2 upper{float_to_bits(sum[m][0]), float_to_bits(sum[m][1])};
                const uint2 lower{float_to_bits(sum[m][2]), float_to_bits(sum[m][3])};
                auto place = [&](int o) { return partial_offset(buffer, rank, o % OCTETS, a, lane); };
                auto barrier = [&](int o) { return peer_address(BARRIERS + 8 * buffer, o / OCTETS); };
                if constexpr (PAIRED) {
                    send(peer_address(place(octet), octet / OCTETS), barrier(octet), uint4{upper.x, upper.y, lower.x, lower.y});
                } else {
                    send(peer_address(place(octet), octet / OCTETS), barrier(octet), upper);
                    send(peer_address(place(octet + 1), (octet + 1) / OCTETS), barrier(octet + 1), lower);
                }
            }
        }
    }
    if (warp >= OCTETS) return;
    receive(steps - 1);
    UNROLL for (int i = 0; i < OWN_OCTETS; ++i)
        UNROLL for (int a = 0; a < TILES; ++a)
            UNROLL for (int j = 0; j < 2; ++j) {
                if (!valid(i, a, j)) continue;
                const long long at = (long long)column_of(a, j) * hidden + unit_of(i);
                global_write(d.grad_h0 + at, dh[i][a][j]);
                global_write(d.grad_c0 + at, dc[i][a][j]);
            }
}
