export { createManualClock, throwIfAborted } from './clock.ts';
export type { Clock, ManualClock } from './clock.ts';
export {
  configurationError,
  defineConfig,
  formatFault,
  parseConfig,
  schemaVersion,
  toJsonSchema,
  z,
} from './config.ts';
export type { ConfigDefinition, JsonSchema } from './config.ts';
export { bitsOf, byteLength, dtypes, elementCount, isDType } from './dtype.ts';
export type { DType } from './dtype.ts';
export { MoebiusError, isMoebiusError } from './errors.ts';
export type { ErrorCode, ErrorFields, Serializable } from './errors.ts';
export { describeValue, formatPath } from './fault.ts';
export type { Fault } from './fault.ts';
export { createMemoryState } from './memory-state.ts';
export type { MemoryState } from './memory-state.ts';
export { createRunningStatistics, medianOf, metricNames } from './metrics.ts';
export type { MetricMap, MetricName, MetricRecord, RunningStatistics, StatisticsSummary } from './metrics.ts';
export { editDistance, nearest } from './nearest.ts';
export { createRegistry, definePlugin, isPlugin } from './plugin.ts';
export type { KnownName, Plugin, PluginName, PluginNamed, Registry } from './plugin.ts';
export { createRng, restoreRng } from './rng.ts';
export type { Rng, RngSeed, RngState } from './rng.ts';
export { assertStateUnit, unitByteLength } from './state.ts';
export type { StateReader, StateTensor, StateUnit, StateWriter, TensorBox, UnitSummary } from './state.ts';
export { runAsync, runRanks, runSync } from './task.ts';
export type { Task, Wait } from './task.ts';
export { getPath, leavesOf, mapTree, zipTree } from './tree.ts';
export type { IsLeaf, MappedTree, TreeLeaf, TreePath } from './tree.ts';
