import { beforeAll, expect, it } from 'vitest';

import { createEngine, disposeTree, linearForward, profileOperations, tensor2d } from '../../src/index.ts';

beforeAll(async () => {
  await createEngine({ engine: 'native' });
});

it('counts the operators of a run, and only of that run', async () => {
  const x_TI = tensor2d([1, 2, 3, 4], [2, 2]);
  let now = 0;
  const clock = (): number => (now += 1);
  const costs = await profileOperations(() => {
    for (let call = 0; call < 3; call++) disposeTree(linearForward(x_TI, x_TI));
  }, clock);
  expect(costs.reduce((sum, { calls }) => sum + calls, 0)).toBe(3);
  expect(costs.reduce((sum, { milliseconds }) => sum + milliseconds, 0)).toBe(3);
  disposeTree(linearForward(x_TI, x_TI));
  expect(costs).toHaveLength(1);
  x_TI.dispose();
});

it('restores the engine when the run throws', async () => {
  const fault = new Error('stop');
  const failing = profileOperations(
    () => {
      throw fault;
    },
    () => 0,
  );
  await expect(failing).rejects.toBe(fault);
  const x_TI = tensor2d([1], [1, 1]);
  disposeTree([linearForward(x_TI, x_TI), x_TI]);
});
