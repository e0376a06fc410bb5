// Persistent-cluster kernel, forward: one cluster of CLUSTER blocks runs the whole sequence of TILES · 8 columns of the batch.
// Contract, fragment layout and derivation: docs/cuda.md.
//
// Compile-time: STORAGE, HIDDEN (padded H), CLUSTER, TILES, SPLIT (warps sharing one product along k), RESIDENT (k-tiles
// a warp keeps in registers; the rest of its weights lie in shared memory), THREADS, SHARED_BYTES.
#include "storage.cuh"

using S = Stored<STORAGE>;
using Value = S::Value;
using Gates = S::Gates;

constexpr int UNITS = HIDDEN / CLUSTER;            // of one block
constexpr int OCTETS = UNITS / 8;                  // a warp owns 8 units
constexpr int WARPS = OCTETS * SPLIT;
constexpr int K_TILES = HIDDEN / (8 * S::PER_WORD);
constexpr int OWN_TILES = K_TILES / SPLIT;         // of one warp
constexpr int SHARED_K_TILES = OWN_TILES - RESIDENT;  // of them in shared memory
constexpr int COLUMNS = 8 * TILES;
// One product is a chain of OWN_TILES dependent instructions; with a single tile two chains hide half the latency.
constexpr int CHAINS = TILES == 1 && OWN_TILES > 1 ? 2 : 1;

constexpr unsigned H_BYTES = K_TILES * TILES * 64 * 4;
constexpr unsigned SCRATCH = 2 * H_BYTES;
constexpr unsigned TAIL = SCRATCH + (SPLIT - 1) * OCTETS * TILES * 2 * 32 * 16;
constexpr unsigned BARRIERS = TAIL + WARPS * SHARED_K_TILES * 2 * 32 * 16;
static_assert(SHARED_BYTES == BARRIERS + 16, "the plan and the kernel disagree about shared memory");
static_assert(THREADS == 32 * WARPS && UNITS % 8 == 0 && OWN_TILES * SPLIT == K_TILES && SHARED_K_TILES >= 0);
static_assert(SPLIT == 1 || OCTETS <= 15, "a block has 16 barriers, and the first is block_barrier's");

struct Direction {
    const uint4* weights;    // [CLUSTER][OCTETS][K_TILES][2][32]
    const Value* projected;  // [T][B][4][H]
    const Value* h0;         // [B][H]; null: zeros
    const float* c0;         // [B][H]; null: zeros
    const int* lengths;      // [B]; null: all T
    Value* y;                // [T][B][y_stride]
    Value* gates;            // [T][B][4][H] or null
    float* cells;            // [T][B][H] or null
    Value* h_n;              // [B][H]
    float* c_n;              // [B][H]
    long long reverse;
};
struct Arguments {
    Direction directions[2];
    int steps, batch, hidden, y_stride;
};

DEVICE unsigned h_offset(int buffer, int k_tile, int tile, int half) {
    return buffer * H_BYTES + ((k_tile * TILES + tile) * 2 + half) * 128;
}

KERNEL(lstm_cluster_forward, Arguments) {
    const Direction& d = launch.directions[grid_row()];
    const int thread = thread_index(), lane = thread & 31, warp = thread >> 5;
    const int octet = warp % OCTETS, part = warp / OCTETS;
    const int row = lane >> 2, pair = lane & 3;
    const int rank = cluster_rank(), first_column = cluster_index() * COLUMNS;
    const int unit = rank * UNITS + octet * 8 + row;
    const int steps = launch.steps, batch = launch.batch, hidden = launch.hidden;

    Word resident[RESIDENT > 0 ? RESIDENT : 1][2][4];
    const uint4* weights = d.weights + (((long long)(rank * OCTETS + octet) * K_TILES + part * OWN_TILES) * 2) * 32 + lane;
    UNROLL for (int k = 0; k < RESIDENT; ++k) {
        UNROLL for (int m = 0; m < 2; ++m) {
            const uint4 v = global_read(weights + (k * 2 + m) * 32);
            resident[k][m][0] = v.x, resident[k][m][1] = v.y, resident[k][m][2] = v.z, resident[k][m][3] = v.w;
        }
    }
    // A lane reads back only what it wrote itself.
    const unsigned tail = TAIL + warp * SHARED_K_TILES * 1024 + lane * 16;
    for (int k = 0; k < 2 * SHARED_K_TILES; ++k) shared_write(tail + k * 512, global_read(weights + (2 * RESIDENT + k) * 32));

    for (int word = thread; word < HIDDEN / S::PER_WORD * COLUMNS; word += THREADS) {
        const int column = word % COLUMNS, w = word / COLUMNS, n = first_column + column;
        const unsigned to = h_offset(0, w >> 3, column >> 3, (w >> 2) & 1) + ((column & 7) * 4 + (w & 3)) * 4;
        float values[2] = {0.0f, 0.0f};
        for (int e = 0; e < S::PER_WORD; ++e) {
            const int u = w * S::PER_WORD + e;
            if (d.h0 && n < batch && u < hidden) values[e] = S::wide(global_read(d.h0 + (long long)n * hidden + u));
        }
        shared_write(to, S::operand(values[0], values[1]));
    }

    float c[TILES][2], h[TILES][2];
    int length[TILES][2];
    bool valid[TILES][2];
    UNROLL for (int a = 0; a < TILES; ++a) {
        UNROLL for (int j = 0; j < 2; ++j) {
            const int n = first_column + a * 8 + pair * 2 + j;
            const long long at = (long long)n * hidden + unit;
            valid[a][j] = n < batch && unit < hidden;
            c[a][j] = valid[a][j] && d.c0 ? global_read(d.c0 + at) : 0.0f;
            h[a][j] = valid[a][j] && d.h0 ? S::wide(global_read(d.h0 + at)) : 0.0f;
            length[a][j] = !valid[a][j] ? 0 : d.lengths ? global_read(d.lengths + n) : steps;
        }
    }

    Gates upcoming[TILES][2];
    auto fetch = [&](int step) {
        const int t = d.reverse ? steps - 1 - step : step;
        UNROLL for (int a = 0; a < TILES; ++a) {
            UNROLL for (int j = 0; j < 2; ++j) {
                const int n = first_column + a * 8 + pair * 2 + j;
                upcoming[a][j] = Gates{};
                if (valid[a][j]) upcoming[a][j] = S::read_gates(d.projected + ((long long)t * batch + n) * 4 * hidden + unit, hidden);
            }
        }
    };
    if (part == 0) fetch(0);

    if (thread == 0) {
        for (int b = 0; b < 2; ++b) {
            transfer_init(BARRIERS + 8 * b);
            transfer_expect(BARRIERS + 8 * b, H_BYTES);
        }
    }
    // Every block has started and armed its barriers before any other sends to it; h0 is in place.
    cluster_barrier();

    for (int step = 0; step < steps; ++step) {
        const int t = d.reverse ? steps - 1 - step : step, current = step & 1;
        if (step > 0) {
            // Buffer `current` is filled at steps 1, 3, 5, … or 2, 4, 6, …: its (step − 1) / 2-th phase.
            transfer_wait(BARRIERS + 8 * current, ((step - 1) >> 1) & 1);
            if (thread == 0) transfer_expect(BARRIERS + 8 * current, H_BYTES);
        }
        Gates projected[TILES][2];
        if (part == 0) {
            UNROLL for (int a = 0; a < TILES; ++a) {
                projected[a][0] = upcoming[a][0];
                projected[a][1] = upcoming[a][1];
            }
            if (step + 1 < steps) fetch(step + 1);
        }

        float sum[CHAINS][TILES][2][4] = {};
        auto accumulate = [&](int k, const Word (&upper)[4], const Word (&lower)[4]) {
            UNROLL for (int a = 0; a < TILES; ++a) {
                const Word b0 = shared_read<Word>(h_offset(current, part * OWN_TILES + k, a, 0) + lane * 4);
                const Word b1 = shared_read<Word>(h_offset(current, part * OWN_TILES + k, a, 1) + lane * 4);
                S::multiply(sum[k % CHAINS][a][0], upper, b0, b1);
                S::multiply(sum[k % CHAINS][a][1], lower, b0, b1);
            }
        };
        UNROLL for (int k = 0; k < RESIDENT; ++k) accumulate(k, resident[k][0], resident[k][1]);
        UNROLL for (int k = 0; k < SHARED_K_TILES; ++k) {
            const uint4 u = shared_read<uint4>(tail + 2 * k * 512), l = shared_read<uint4>(tail + (2 * k + 1) * 512);
            accumulate(RESIDENT + k, {u.x, u.y, u.z, u.w}, {l.x, l.y, l.z, l.w});
        }
        if constexpr (CHAINS == 2) {
            UNROLL for (int m = 0; m < 2; ++m)
                UNROLL for (int r = 0; r < 4; ++r) sum[0][0][m][r] += sum[CHAINS - 1][0][m][r];
        }
        if constexpr (SPLIT > 1) {
            auto scratch = [&](int from, int a, int m) {
                return SCRATCH + (((from * OCTETS + octet) * TILES + a) * 2 + m) * 512 + lane * 16;
            };
            if (part > 0) {
                UNROLL for (int a = 0; a < TILES; ++a)
                    UNROLL for (int m = 0; m < 2; ++m) {
                        const float(&s)[4] = sum[0][a][m];
                        shared_write(scratch(part - 1, a, m), float4{s[0], s[1], s[2], s[3]});
                    }
            }
            named_barrier(1 + octet, 32 * SPLIT);
            if (part > 0) continue;
            UNROLL for (int from = 0; from < SPLIT - 1; ++from)
                UNROLL for (int a = 0; a < TILES; ++a)
                    UNROLL for (int m = 0; m < 2; ++m) {
                        const float4 s = shared_read<float4>(scratch(from, a, m));
                        sum[0][a][m][0] += s.x, sum[0][a][m][1] += s.y, sum[0][a][m][2] += s.z, sum[0][a][m][3] += s.w;
                    }
        }

        // Every lane of this warp has read h_{t-1} (and the partial sums) before any of them lets the peers go on.
        warp_barrier();
        UNROLL for (int a = 0; a < TILES; ++a) {
            Gates4 gate[2];
            float y[2];
            UNROLL for (int j = 0; j < 2; ++j) {
                const Gates4 p = S::wide_gates(projected[a][j]);
                const float(&upper)[4] = sum[0][a][0];
                const float(&lower)[4] = sum[0][a][1];
                gate[j] = lstm_gates<S>({upper[j], upper[2 + j], lower[j], lower[2 + j]}, p);
                const bool live = t < length[a][j];
                const LstmState<float> after = lstm_forward<S>(gate[j], c[a][j]);
                const float out = S::wide(S::narrow(after.h));
                c[a][j] = live ? after.c : c[a][j];
                h[a][j] = live ? out : h[a][j];
                y[j] = live ? out : 0.0f;
            }
            if (step + 1 < steps) {
                // Lanes hold one unit of two columns. Neighbouring units swap, so that a lane holds two units of one column.
                const bool odd = row & 1;
                const float kept = odd ? h[a][1] : h[a][0], swapped = shuffle_xor(odd ? h[a][0] : h[a][1], 4);
                const float first = odd ? swapped : kept, second = odd ? kept : swapped;
                const Word words[2] = {S::operand(first, second), S::operand(second, first)};
                // Eight lanes collect 16 B each: one column of the octet, in fragment order; four such groups serve four blocks.
                const int column = lane & 7;
                UNROLL for (int b = 0; b < 2 / S::PER_WORD; ++b) {
                    Word v[4];
                    UNROLL for (int k = 0; k < 4; ++k) {
                        const int w = b * 4 + k, two_units = S::PER_WORD == 2 ? w : w >> 1;
                        const int source = ((2 * two_units + (column & 1)) << 2) | (column >> 1);
                        v[k] = shuffle(words[S::PER_WORD == 2 ? 0 : w & 1], source);
                    }
                    const int w = (rank * OCTETS + octet) * 8 / S::PER_WORD + b * 4;
                    const unsigned to = h_offset(current ^ 1, w >> 3, a, (w >> 2) & 1) + column * 16;
                    UNROLL for (int group = 0; group < (CLUSTER + 3) / 4; ++group) {
                        const int peer = group * 4 + (lane >> 3);
                        if (CLUSTER >= 4 || peer < CLUSTER)
                            send(peer_address(to, peer), peer_address(BARRIERS + 8 * (current ^ 1), peer),
                                 uint4{v[0], v[1], v[2], v[3]});
                    }
                }
            }
            // After the send: nobody waits for these.
            UNROLL for (int j = 0; j < 2; ++j) {
                const int n = first_column + a * 8 + pair * 2 + j;
                if (!valid[a][j]) continue;
                const long long token = (long long)t * batch + n, at = token * hidden + unit;
                global_write(d.y + token * launch.y_stride + unit, S::narrow(y[j]));
                if (d.gates) S::write_gates(d.gates + token * 4 * hidden + unit, hidden, S::gates(gate[j]));
                if (d.cells) global_write(d.cells + at, c[a][j]);
            }
        }
    }
    if (part > 0) return;
    UNROLL for (int a = 0; a < TILES; ++a) {
        UNROLL for (int j = 0; j < 2; ++j) {
            const long long at = (long long)(first_column + a * 8 + pair * 2 + j) * hidden + unit;
            if (!valid[a][j]) continue;
            global_write(d.h_n + at, S::narrow(h[a][j]));
            global_write(d.c_n + at, c[a][j]);
        }
    }
}
