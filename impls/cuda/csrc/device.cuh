// Everything a kernel of this folder may ask of a GPU, and nothing else. Two bodies implement it:
// device_ptx.cuh (PTX, for NVRTC and nvcc) and device_host.hpp (an emulation, for g++), so that the same
// kernel source runs on a GPU and is proved on a CPU.
//
// Memory of a block is addressed by byte offset into its dynamic shared memory, never by pointer: the emulation
// can then check every access. What the functions promise, and all they promise:
//
//   function                    who must call it            orders memory
//   shared_read, shared_write   anyone; V is 4 … 32 B,      no
//                               to read also 2 B
//   shared_read_where(on, at, v) anyone                     no: 16 B into v for those whose `on` is true; others keep theirs
//   global_read, global_write   anyone                      no; between clusters of one launch nothing does
//   shuffle, shuffle_xor        all 32 lanes together       no: values pass, visibility of memory does not
//   multiply_*                  all 32 lanes together       no
//   warp_barrier                all 32 lanes together       yes, among the warp
//   named_barrier(id, n)        exactly n threads, id ≥ 1   yes, among them
//   block_barrier               every thread of the block   yes, among them
//   cluster_barrier             every thread of the cluster yes, among them (release, acquire at cluster scope)
//   transfer_init               one thread                  no: a barrier has to publish it
//   transfer_expect(bar, n)     one thread a phase          arrives, and adds n bytes to what the phase waits for
//   transfer_wait(bar, parity)  anyone                      acquires: all bytes of the phase, and all that their senders
//                                                           had done before sending
//   send(to, bar, value)        anyone                      writes 8 or 16 B to a block of the cluster, then counts them
//                                                           on that block's barrier; the data are the receiver's only
//                                                           after transfer_wait
//   copy_async(to, from)        anyone; V is 4, 8, 16 B     no: bytes of global memory land in the block's own some time later;
//                                                           until the wait both places must stay as they are, and unread
//   copy_commit                 anyone                      no: closes a group of the copies this thread began
//   copy_wait<N>                anyone                      all but the last N groups of this thread have landed, for it
//                                                           alone: others know of them by a barrier after this wait
//   opaque(value)               anyone                      no: the same value, of which the compiler then knows nothing: it
//                                                           neither makes it a second time nor keeps what is made of it
//   cycles                      anyone                      no: the clock of this multiprocessor
//
// Through global memory, among all blocks of a grid that is resident as a whole (probes and persistent-grid kernels):
//   counter_add, counter_read   anyone; a reader spins      no, unless with grid_fence before the one, after the other
//   counter_release, _acquire   anyone; a reader spins      yes: all that the adder knew, to whoever reads its sum
//   exchange_write, _read       anyone; 16 B                no: what is read has to be ordered by one of the above
//   letter_write, letter_read   anyone; a reader spins      no: 16 B that arrive together, so they can say which they are
//   relaxed_write, relaxed_read anyone; a reader spins      no: words of 4 B (uint4 holds four, in no order) or 8 B (Pair; Pairs
//                                                           holds two); a read may find any older value that neither its
//                                                           thread nor what it knows of has seen replaced
//   report                      anyone                      no: the host finds a code that is not 0 after the launch
//   warp_any                    all 32 lanes together       no
//
// A loop that waits for a relaxed word gives up after SPIN_LIMIT rounds.
//
// multiply_group<KIND, N>: four warps multiply their 64 rows by the N columns whose fragments lie at `offset`
// ([N / 8][2][32 lanes] words). It sees what was written and ordered before group_begin; until group_end its operands must
// stay as they are and its sums are not there yet. sm_90a only.
#pragma once

using Word = unsigned int;

#ifdef __CUDACC__
#include "device_ptx.cuh"
#else
#include "device_host.hpp"
#endif
