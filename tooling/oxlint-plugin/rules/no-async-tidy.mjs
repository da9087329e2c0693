/**
 * @file `moebius/no-async-tidy`: `tidy` and `defineOp` are synchronous. tfjs does not throw on an async function: it
 * hands back tensors that are already disposed. A generator body would stay open across a yield in the same way.
 */

const scopes = new Set(['tidy', 'defineOp']);

/** @type {import('../rule-types.d.ts').Rule} */
export const noAsyncTidy = {
  meta: { type: 'problem', docs: { description: 'tidy and defineOp take plain synchronous functions' } },
  create(context) {
    return {
      CallExpression(node) {
        const callee = node['callee'];
        const name = callee.type === 'MemberExpression' ? callee.property.name : callee.name;
        if (!scopes.has(name)) return;
        for (const argument of node['arguments']) {
          if (!argument.async && !argument.generator) continue;
          const kind = argument.async ? 'async' : 'generator';
          context.report({
            node: argument,
            message: `${name}: the body is synchronous, got an ${kind} function (its tensors are disposed at the first pause: await outside)`,
          });
        }
      },
    };
  },
};
