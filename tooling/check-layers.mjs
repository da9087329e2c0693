/** @file `node tooling/check-layers.mjs [root]`: arrows only go down. See checks/layers.mjs. */
import { resolve } from 'node:path';

import { findLayerFaults } from './checks/layers.mjs';
import { report } from './checks/workspaces.mjs';

const { workspaces, imports, faults } = findLayerFaults(resolve(process.argv[2] ?? '.'));
report('check-layers', `${workspaces} workspaces, ${imports} imports`, faults);
