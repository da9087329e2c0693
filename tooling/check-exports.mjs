/** @file `node tooling/check-exports.mjs [root]`, after a build: exports, bin and dist agree. See checks/exports.mjs. */
import { resolve } from 'node:path';

import { findExportFaults } from './checks/exports.mjs';
import { report } from './checks/workspaces.mjs';

const { entries, faults } = await findExportFaults(resolve(process.argv[2] ?? '.'), { load: true });
report('check-exports', `${entries} paths`, faults);
