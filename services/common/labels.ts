/**
 * Labels, the input of identity: `source:key=value`, and sets of them in one canonical order.
 * @module
 */

/** The source that matches every source; allowed in selectors, never on a label. */
export const SOURCE_ANY = "any";
/** The source of a label that was written without one. */
export const SOURCE_UNSPEC = "unspec";
export const SOURCE_KUBERNETES = "k8s";
export const SOURCE_RESERVED = "reserved";
export const SOURCE_CIDR = "cidr";
/** Labels of a node, as the endpoint of its host has them. */
export const SOURCE_NODE = "node";
/** Of selectors of names that mean an address. No selector of labels means these. */
export const SOURCE_FQDN = "fqdn";

/** Label keys with a meaning of their own (Cilium's names, so that its manifests work unchanged). */
export const LABEL_NAMESPACE = "io.kubernetes.pod.namespace";
export const LABEL_NAMESPACE_META_PREFIX = "io.cilium.k8s.namespace.labels.";
export const LABEL_CLUSTER = "io.cilium.k8s.policy.cluster";
export const LABEL_SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount";

/** Longest accepted key and value in UTF-16 units; Kubernetes allows 317 (prefix, slash, name) and 63. */
export const LABEL_KEY_LENGTH_MAX = 512;
export const LABEL_VALUE_LENGTH_MAX = 512;
/** Most labels that one set may hold. */
export const LABELS_MAX = 256;

/** One label. `value` is `""` when the text has no `=`. */
export interface Label {
  readonly source: string;
  readonly key: string;
  readonly value: string;
}

/** A label text that cannot be read. */
export class LabelError extends Error {
  override readonly name = "LabelError";
  readonly code = "LABEL_INVALID";
  constructor(readonly subject: string, readonly expected: string) {
    super(`Cannot read label ${JSON.stringify(subject.slice(0, 120))}: want ${expected}`);
  }
}

/** Options of {@link parseLabel}. */
export interface ParseLabelOptions {
  /** Source of a text that names none; default `unspec`. */
  defaultSource?: string;
}

/**
 * Reads `source:key=value`, `key=value`, `source:key` or `key`. The source ends at the first colon, unless an
 * equals sign comes before it (`url=http://x` has no source).
 * @throws {LabelError} on an empty key, a control character, a `;`, or more than the maximum length
 */
export function parseLabel(text: string, options: ParseLabelOptions = {}): Label {
  const equals = text.indexOf("=");
  const value = equals < 0 ? "" : text.slice(equals + 1);
  const { source, key } = parseLabelKey(equals < 0 ? text : text.slice(0, equals), {
    defaultSource: options.defaultSource ?? SOURCE_UNSPEC,
  });
  return makeLabel(source, key, value);
}

/** Reads `source:key` or `key`; a text without source gets `defaultSource`. */
export function parseLabelKey(
  text: string,
  options: { defaultSource: string },
): { source: string; key: string } {
  const colon = text.indexOf(":");
  if (colon < 0) return { source: options.defaultSource, key: text };
  return { source: text.slice(0, colon), key: text.slice(colon + 1) };
}

/** A label of its parts, checked. @throws {LabelError} */
export function makeLabel(source: string, key: string, value = ""): Label {
  const text = `${source}:${key}=${value}`;
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(source)) throw new LabelError(text, "a source of a-z, 0-9 and -");
  if (source === SOURCE_ANY) {
    throw new LabelError(text, "a source other than any, which selectors alone may name");
  }
  if (key === "" || key.length > LABEL_KEY_LENGTH_MAX) {
    throw new LabelError(text, `a key of 1 to ${LABEL_KEY_LENGTH_MAX} characters`);
  }
  if (value.length > LABEL_VALUE_LENGTH_MAX) {
    throw new LabelError(text, `a value of at most ${LABEL_VALUE_LENGTH_MAX} characters`);
  }
  // The separator of LabelSet.key and everything that would break a line of output stay out.
  // Cc: control characters, those of 8 bits too; Zl, Zp: ends of lines; Cs: half a character, which no message can carry.
  if (/[\p{Cc}\p{Z}\p{Cs};=]/u.test(key) || /[\p{Cc}\p{Zl}\p{Zp}\p{Cs};]/u.test(value)) {
    throw new LabelError(text, "no control character, no ; and no blank in the key");
  }
  return { source, key, value };
}

/** `source:key=value`, or `source:key` for an empty value. */
export function formatLabel(label: Label): string {
  return label.value === "" ? `${label.source}:${label.key}` : `${label.source}:${label.key}=${label.value}`;
}

/**
 * An immutable set of labels, at most one value per source and key, in canonical order (by UTF-16 units of
 * `source:key`). Two sets with the same labels have the same {@link LabelSet.key}, whatever order they came in.
 */
export class LabelSet implements Iterable<Label> {
  readonly #labels: readonly Label[];
  readonly #byKey: ReadonlyMap<string, readonly Label[]>;
  /** Canonical text: formatted labels joined by `;`. Equal exactly for equal sets. */
  readonly key: string;

  private constructor(labels: readonly Label[]) {
    this.#labels = labels;
    const byKey = new Map<string, Label[]>();
    for (const label of labels) {
      const list = byKey.get(label.key);
      if (list) list.push(label);
      else byKey.set(label.key, [label]);
    }
    this.#byKey = byKey;
    this.key = labels.map(formatLabel).join(";");
  }

  static readonly empty: LabelSet = new LabelSet([]);

  /** A set of labels; of two with one source and key the later wins. @throws {LabelError} beyond LABELS_MAX */
  static from(labels: Iterable<Label>): LabelSet {
    const unique = new Map<string, Label>();
    for (const label of labels) unique.set(`${label.source}:${label.key}`, label);
    if (unique.size > LABELS_MAX) {
      throw new LabelError(`${unique.size} labels`, `at most ${LABELS_MAX} labels in one set`);
    }
    const sorted = [...unique.entries()].sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0).map(([, label]) =>
      label
    );
    return new LabelSet(sorted);
  }

  /** A set of label texts, see {@link parseLabel}. */
  static parse(texts: Iterable<string>, options: ParseLabelOptions = {}): LabelSet {
    const labels: Label[] = [];
    for (const text of texts) labels.push(parseLabel(text, options));
    return LabelSet.from(labels);
  }

  get size(): number {
    return this.#labels.length;
  }

  [Symbol.iterator](): Iterator<Label> {
    return this.#labels[Symbol.iterator]();
  }

  /** The labels with this key, from whatever source. */
  withKey(key: string): readonly Label[] {
    return this.#byKey.get(key) ?? [];
  }

  /** The value under source (or `any`) and key, or undefined. */
  get(source: string, key: string): string | undefined {
    for (const label of this.withKey(key)) {
      if (source === SOURCE_ANY || source === label.source) return label.value;
    }
    return undefined;
  }

  has(source: string, key: string): boolean {
    return this.get(source, key) !== undefined;
  }

  equals(other: LabelSet): boolean {
    return this.key === other.key;
  }

  /** A set with only the labels that `keep` accepts. */
  filter(keep: (label: Label) => boolean): LabelSet {
    return LabelSet.from(this.#labels.filter(keep));
  }

  /** This set with others added; of two with one source and key the added one wins. */
  with(labels: Iterable<Label>): LabelSet {
    return LabelSet.from([...this.#labels, ...labels]);
  }

  /** The formatted labels in canonical order. */
  toStrings(): string[] {
    return this.#labels.map(formatLabel);
  }

  toString(): string {
    return this.key;
  }

  toJSON(): string[] {
    return this.toStrings();
  }
}
