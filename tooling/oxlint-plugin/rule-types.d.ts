/** The part of the ESLint rule interface that our rules use. */

/** A syntax tree node. Only `type` is known; rules look at the rest after testing it. */
export interface Node {
  readonly type: string;
  readonly range: [number, number];
  readonly parent?: Node;
  // eslint's tree is open: each rule narrows by `type`
  readonly [key: string]: any;
}

/** What a rule is given for one file. */
export interface RuleContext {
  readonly filename: string;
  readonly sourceCode: {
    getText(node?: Node): string;
    getCommentsBefore(node: Node): { readonly type: string; readonly value: string }[];
  };
  report(fault: { readonly node: Node; readonly message: string }): void;
}

/** A rule: for one file, what to do at which node type. */
export interface Rule {
  readonly meta: { readonly type: 'problem'; readonly docs: { readonly description: string } };
  create(context: RuleContext): { readonly [nodeType: string]: (node: Node) => void };
}

/** The plugin object that oxlint loads. */
export interface Plugin {
  readonly meta: { readonly name: string };
  readonly rules: { readonly [name: string]: Rule };
}
