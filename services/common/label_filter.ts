/**
 * Which labels make an identity. Regular expressions, anchored at the start of the key (or of `source:key` when
 * the expression names a source), include and ignore; the longest match decides.
 * @module
 */
import { type Label, LabelError, type LabelSet } from "./labels.ts";

/** One expression of a filter. */
interface FilterExpression {
  readonly source: string;
  readonly pattern: RegExp;
  readonly ignore: boolean;
}

/** The labels that count by default, as Cilium has them. */
export const LABEL_FILTER_INCLUDES_DEFAULT: readonly string[] = [
  "reserved:.*",
  "io\\.kubernetes\\.pod\\.namespace",
  "io\\.cilium\\.k8s\\.namespace\\.labels",
  "app\\.kubernetes\\.io",
  "io\\.cilium\\.k8s\\.policy\\.cluster",
  "io\\.cilium\\.k8s\\.policy\\.serviceaccount",
  // Ours: an endpoint has its addresses as labels where CIDR rules mean pods.
  "cidr:.*",
  // And a host those of its node, all of them: `kubernetes.io/hostname` tells nodes apart.
  "node:.*",
];

/** The labels that do not count by default: they differ from replica to replica or say nothing about the workload. */
export const LABEL_FILTER_IGNORES_DEFAULT: readonly string[] = [
  "io\\.kubernetes",
  "kubernetes\\.io",
  "statefulset\\.kubernetes\\.io/pod-name",
  "apps\\.kubernetes\\.io/pod-index",
  "batch\\.kubernetes\\.io/job-completion-index",
  "batch\\.kubernetes\\.io/controller-uid",
  ".*beta\\.kubernetes\\.io",
  "k8s\\.io",
  "pod-template-generation",
  "pod-template-hash",
  "controller-revision-hash",
  "annotation.*",
  "controller-uid",
  "etcd_node",
  "topology\\.kubernetes\\.io",
];

/** Longest accepted expression, and the most expressions in one filter. */
export const LABEL_FILTER_EXPRESSION_LENGTH_MAX = 256;
export const LABEL_FILTER_EXPRESSIONS_MAX = 256;

/** Options of {@link LabelFilter}. */
export interface LabelFilterOptions {
  /** Expressions that make a label count; default {@link LABEL_FILTER_INCLUDES_DEFAULT}. */
  includes?: readonly string[];
  /** Expressions that make a label not count; default {@link LABEL_FILTER_IGNORES_DEFAULT}. */
  ignores?: readonly string[];
  /** More expressions after those, `!` before an ignoring one (the form of Cilium's `labels` option). */
  extra?: readonly string[];
}

/**
 * Decides which labels are relevant to security. A label counts when an include expression matches longer than
 * every ignore expression; when nothing matches, it counts unless `extra` has an include (a user who lists what
 * counts means nothing else).
 */
export class LabelFilter {
  readonly #expressions: readonly FilterExpression[];
  readonly #listsIncludes: boolean;

  /** @throws {LabelError} on an expression that is no regular expression or too long */
  constructor(options: LabelFilterOptions = {}) {
    const extra = options.extra ?? [];
    const expressions = [
      ...(options.includes ?? LABEL_FILTER_INCLUDES_DEFAULT).map((text) => parseExpression(text, false)),
      ...(options.ignores ?? LABEL_FILTER_IGNORES_DEFAULT).map((text) => parseExpression(text, true)),
      ...extra.map((text) =>
        text.startsWith("!") ? parseExpression(text.slice(1), true) : parseExpression(text, false)
      ),
    ];
    if (expressions.length > LABEL_FILTER_EXPRESSIONS_MAX) {
      throw new LabelError(`${expressions.length} expressions`, `at most ${LABEL_FILTER_EXPRESSIONS_MAX}`);
    }
    this.#expressions = expressions;
    this.#listsIncludes = extra.some((text) => !text.startsWith("!"));
  }

  /** True when the label counts. */
  accepts(label: Label): boolean {
    let included = -1;
    let ignored = -1;
    for (const expression of this.#expressions) {
      if (expression.source !== "" && expression.source !== label.source) continue;
      const match = expression.pattern.exec(label.key);
      if (!match) continue;
      if (expression.ignore) ignored = Math.max(ignored, match[0].length);
      else included = Math.max(included, match[0].length);
    }
    if (included >= 0 || ignored >= 0) return included > ignored;
    return !this.#listsIncludes;
  }

  /** The labels of the set that count. */
  apply(labels: LabelSet): LabelSet {
    return labels.filter((label) => this.accepts(label));
  }
}

function parseExpression(text: string, ignore: boolean): FilterExpression {
  if (text.length > LABEL_FILTER_EXPRESSION_LENGTH_MAX) {
    throw new LabelError(text, `an expression of at most ${LABEL_FILTER_EXPRESSION_LENGTH_MAX} characters`);
  }
  const named = /^([a-z0-9][a-z0-9-]*):(.*)$/s.exec(text);
  try {
    return {
      source: named ? named[1] : "",
      pattern: new RegExp(`^(?:${named ? named[2] : text})`, "u"),
      ignore,
    };
  } catch (cause) {
    throw new LabelError(text, `a regular expression (${(cause as Error).message})`);
  }
}
