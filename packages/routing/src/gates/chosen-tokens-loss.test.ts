import { createEngine } from '@moebius/tensor';
import { beforeAll, describe, it } from 'vitest';

import { describeBalanceLoss } from '../testing/index.ts';
import { chosenTokensLoss } from './chosen-tokens-loss.ts';

beforeAll(async () => {
  await createEngine();
});

describeBalanceLoss(chosenTokensLoss(), { describe, it });
