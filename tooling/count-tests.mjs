/** @file `node tooling/count-tests.mjs <report folder> <exit status>`: prints "passed failed". See checks/test-counts.mjs. */
import { countTests } from './checks/test-counts.mjs';

const { passed, failed } = countTests(process.argv[2] ?? '.', Number(process.argv[3] ?? 0));
console.log(`${passed} ${failed}`);
