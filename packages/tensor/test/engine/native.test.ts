import { describe, expect, it } from 'vitest';
import * as tf from '@tensorflow/tfjs';

import { createEngine } from '../../src/index.ts';

describe('the native engine', () => {
  it('starts from the cache, says what it is, and multiplies matrices', async () => {
    const lines: string[] = [];
    const engine = await createEngine({ engine: 'native', onMessage: (line) => lines.push(line) });
    expect(engine).toMatchObject({ name: 'native', backendName: 'tensorflow' });
    expect(lines).toEqual([engine.description]);
    const product = tf.matMul(
      [
        [1, 2],
        [3, 4],
      ],
      [[5], [6]],
    );
    expect([...product.dataSync()]).toEqual([17, 39]);
    product.dispose();
  });
});
