/** @file `node tooling/check-anatomy.mjs [root]`: every package has the same parts. See checks/anatomy.mjs. */
import { resolve } from 'node:path';

import { findAnatomyFaults } from './checks/anatomy.mjs';
import { report } from './checks/workspaces.mjs';

const { packages, faults } = findAnatomyFaults(resolve(process.argv[2] ?? '.'));
report('check-anatomy', `${packages} packages`, faults);
