import { expectTypeOf } from 'vitest';

import {
  createRegistry,
  defineConfig,
  definePlugin,
  mapTree,
  type MetricMap,
  type MetricRecord,
  parseConfig,
  runSync,
  type Task,
  z,
} from './index.ts';

const topK = definePlugin({ kind: 'router', name: 'top-k', pick: (): number => 1 });
const soft = definePlugin({ kind: 'router', name: 'soft', mix: (): string => 'all' });
const routers = createRegistry([topK, soft]);

expectTypeOf(routers.get('top-k').pick()).toEqualTypeOf<number>();
expectTypeOf(routers.get('soft').mix()).toEqualTypeOf<string>();
expectTypeOf(routers.names()).toEqualTypeOf<readonly ('top-k' | 'soft')[]>();
// @ts-expect-error -- an unknown literal does not compile
routers.get('topk');
// @ts-expect-error -- the soft router has no pick
routers.get('soft').pick();
declare const anyName: string;
expectTypeOf(routers.get(anyName)).toEqualTypeOf<typeof topK | typeof soft>();

const config = defineConfig({
  name: 'x',
  schema: z.strictObject({ a: z.number().default(1), b: z.string().optional() }),
});
expectTypeOf(config.parse({})).toEqualTypeOf<{ a: number; b?: string | undefined }>();
expectTypeOf(parseConfig(z.number(), 1, 'n')).toEqualTypeOf<number>();
expectTypeOf<z.infer<z.ZodString>>().toEqualTypeOf<string>();

declare module './index.ts' {
  interface MetricMap {
    'test/made_up': string;
  }
}
expectTypeOf<MetricMap['test/made_up']>().toEqualTypeOf<string>();
const record: MetricRecord = { step: 1, 'train/loss': 2, 'test/made_up': 'x' };
expectTypeOf(record.step).toEqualTypeOf<number>();
// @ts-expect-error -- a metric of another type
const wrong: MetricRecord = { step: 1, 'train/loss': 'high' };
// @ts-expect-error -- a metric nobody declared
const unknownName: MetricRecord = { step: 1, 'train/lost': 2 };
expectTypeOf([wrong, unknownName]).toBeArray();

const isNumbers = (value: unknown): value is Float32Array => value instanceof Float32Array;
const mapped = mapTree(
  { a: new Float32Array(1), b: [{ c: new Float32Array(1), d: 'x' }] },
  isNumbers,
  () => 1n,
);
expectTypeOf(mapped).toEqualTypeOf<{ a: bigint; b: { c: bigint; d: string }[] }>();

declare const task: Task<'done'>;
expectTypeOf(runSync(task)).toEqualTypeOf<'done'>();
