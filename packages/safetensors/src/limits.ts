/**
 * @file Limits on what is read. A file comes from a stranger: each number is here with its reason.
 */

/** What a reader accepts. */
export interface Limits {
  /** Bytes of header JSON. */
  readonly headerBytes: number;
  /** Tensors in one file. */
  readonly tensors: number;
  /** Dimensions of one tensor. */
  readonly rank: number;
  /** Bytes of a sharded model's index JSON. */
  readonly indexBytes: number;
  /** Files of a sharded model. */
  readonly shards: number;
}

/** The limits when none are given: far above what public models need, far below what harms. */
export const defaultLimits: Limits = Object.freeze({
  // The reference library takes 100 MB; huggingface.js 25 MB. The largest public shards stay below 1 MB.
  headerBytes: 25_000_000,
  // The whole of DeepSeek-V3 has 91,991 tensors, over 163 files; more than this in one file is not a model.
  tensors: 262_144,
  // NumPy's bound since version 2; PyTorch has the same.
  rank: 64,
  // DeepSeek-V3's index is 8.9 MB.
  indexBytes: 64_000_000,
  // Every shard keeps one descriptor open, and 1,024 is a common limit of a process.
  shards: 1000,
});
