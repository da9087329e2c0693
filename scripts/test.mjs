/**
 * @file `npm test`: bootstrap, then every test.
 *
 *   npm test                       all of them
 *   npm test -- --project tensor   anything given goes to `vitest run`
 */
import { bootstrap } from './bootstrap.mjs';
import { local, run } from './stages.mjs';

await bootstrap();
const { status } = await run(local('vitest', 'run', ...process.argv.slice(2)), { show: true });
process.exit(status);
