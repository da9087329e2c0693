import { corpora, corpusNames } from '@moebius/train';
import { expect, it } from 'vitest';

import { corpusHelp } from './text-help.ts';

it('help lists the texts that the library has', () => {
  const lines = corpusNames.map((name) => `  ${name.padEnd(10)} ${corpora[name].title}`);
  expect(corpusHelp).toBe(lines.join('\n'));
});
