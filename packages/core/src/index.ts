export { MoebiusError, isMoebiusError } from './errors.ts';
export type { ErrorCode, ErrorFields, Serializable } from './errors.ts';
export { runAsync, runRanks, runSync } from './task.ts';
export type { Task, Wait } from './task.ts';
