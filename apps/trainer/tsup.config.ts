import { packageBuild } from '../../tooling/tsup/package-build.ts';

export default packageBuild({ entries: { cli: 'src/cli.ts' }, types: false });
