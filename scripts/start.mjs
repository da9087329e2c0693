/**
 * @file `npm start`: bootstrap, then train a small Mixture-of-Experts language model on real text.
 *
 *   npm start                      the `demo` recipe
 *   npm start -- --smoke           the `smoke` recipe: ends within a minute and a half
 *   npm start -- --steps 200 …     anything else goes to `moebius train`
 */
import { join } from 'node:path';

import { bootstrap } from './bootstrap.mjs';
import { root, run } from './stages.mjs';

const given = process.argv.slice(2);
const smoke = given.includes('--smoke');
const rest = given.filter((argument) => argument !== '--smoke');
const named = rest.some((argument) => /^--(recipe|config|resume)(=|$)/.test(argument));
const recipe = named ? [] : ['--recipe', smoke ? 'smoke' : 'demo'];

await bootstrap();
const { status } = await run(
  [process.execPath, join(root, 'apps/trainer/dist/cli.js'), 'train', ...recipe, ...rest],
  { show: true },
);
process.exit(status);
