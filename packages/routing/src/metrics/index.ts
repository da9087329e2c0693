export { recordRoutes } from './record-routes.ts';
export { replayRoutes } from './replay-routes.ts';
export type { ReplayOptions } from './replay-routes.ts';
export { createRouteRecorder } from './route-trace.ts';
export type { LayerTrace, RecordedRoute, RouteRecorder, RouteRecorderOptions } from './route-trace.ts';
export type { RouteTrace, TracePass } from './route-trace.ts';
export { readTrace, traceFromLines, traceToLines } from './trace-file.ts';
export type { TraceLimits, TraceReader } from './trace-file.ts';
export { traceLimits } from './trace-limits.ts';
