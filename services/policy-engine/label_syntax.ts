/**
 * Reading of label selectors from manifests, with Kubernetes' rules for keys and values.
 * @module
 */
import {
  type Requirement,
  Selector,
  SELECTOR_VALUES_MAX,
  type SelectorOperator,
  SOURCE_ANY,
} from "@weir/common";
import { describe, type ManifestNode, type ManifestReader, type Place } from "@weir/common/manifest";

/** Most requirements in one selector of a manifest. */
export const SELECTOR_TERMS_MAX = 128;

const NAME = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
const DNS_SUBDOMAIN = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
const OPERATORS: readonly string[] = ["In", "NotIn", "Exists", "DoesNotExist"];

/** Options of {@link readSelector}. */
export interface ReadSelectorOptions {
  /** Whether keys may name their source (`k8s:app`), as Cilium's may. */
  sources: boolean;
  /** Put before every key, for the labels of namespaces. Default none. */
  keyPrefix?: string;
  /** Source of keys that name none; default `any`. */
  defaultSource?: string;
}

/** Reads `{matchLabels, matchExpressions}`; undefined after a fault. */
export function readSelector(
  reader: ManifestReader,
  node: ManifestNode,
  options: ReadSelectorOptions,
): Selector | undefined {
  const fields = reader.map(node, ["matchLabels", "matchExpressions"]);
  if (!fields) return undefined;
  const requirements: Requirement[] = [];
  let faulty = false;
  const matchLabels = fields.get("matchLabels");
  if (matchLabels && matchLabels.kind !== "map") {
    faulty = true;
    reader.invalid(matchLabels, `${describe(matchLabels)}, want a map of label to value`);
  }
  for (const [text, field] of matchLabels?.fields ?? []) {
    const key = readKey(reader, { ...field, path: field.value.path }, text, options);
    const value = readValue(reader, field.value);
    if (!key || value === undefined) faulty = true;
    else requirements.push({ ...key, operator: "In", values: [value] });
  }
  const expressions = fields.get("matchExpressions");
  const items = reader.list(expressions, SELECTOR_TERMS_MAX);
  if (expressions && !items) faulty = true;
  for (const item of items ?? []) {
    const requirement = readExpression(reader, item, options);
    if (requirement) requirements.push(requirement);
    else faulty = true;
  }
  if (requirements.length > SELECTOR_TERMS_MAX) {
    reader.faults.add("limit", node, `${requirements.length} terms, want at most ${SELECTOR_TERMS_MAX}`);
    return undefined;
  }
  return faulty ? undefined : Selector.of(requirements);
}

/** Whether texts are a label of Kubernetes: others have no place in a selector, whose text would be that of another one. */
export function isLabelText(key: string, value: string): boolean {
  const slash = key.lastIndexOf("/");
  return NAME.test(key.slice(slash + 1)) && (slash < 0 || isKeyPrefix(key.slice(0, slash))) &&
    (value === "" || NAME.test(value));
}

function readExpression(
  reader: ManifestReader,
  item: ManifestNode,
  options: ReadSelectorOptions,
): Requirement | undefined {
  const fields = reader.map(item, ["key", "operator", "values"]);
  if (!fields) return undefined;
  const keyNode = fields.get("key");
  const keyText = reader.string(keyNode, 512);
  if (!keyNode) reader.invalid(item, "key is missing");
  const key = keyNode && keyText !== undefined ? readKey(reader, keyNode, keyText, options) : undefined;
  const operatorNode = fields.get("operator");
  const operator = reader.string(operatorNode, 64);
  if (!operatorNode) reader.invalid(item, "operator is missing");
  const valuesNode = fields.get("values");
  const valueNodes = reader.list(valuesNode, SELECTOR_VALUES_MAX);
  const values = (valueNodes ?? []).map((value) => readValue(reader, value));
  if (operatorNode && operator !== undefined && !OPERATORS.includes(operator)) {
    return reader.invalid(operatorNode, `${JSON.stringify(operator)}, want one of ${OPERATORS.join(", ")}`);
  }
  if (!key || operator === undefined || values.includes(undefined) || (valuesNode && !valueNodes)) {
    return undefined;
  }
  const wantsValues = operator === "In" || operator === "NotIn";
  if (wantsValues && values.length === 0) {
    return reader.invalid(valuesNode ?? item, `no values, want at least one for operator ${operator}`);
  }
  if (!wantsValues && values.length > 0) {
    return reader.invalid(valuesNode ?? item, `${values.length} values, want none for operator ${operator}`);
  }
  return { ...key, operator: operator as SelectorOperator, values: values as string[] };
}

function readKey(
  reader: ManifestReader,
  place: Place,
  text: string,
  options: ReadSelectorOptions,
): { source: string; key: string } | undefined {
  const named = options.sources ? /^([a-z0-9][a-z0-9-]*):(.*)$/s.exec(text) : null;
  const source = named ? named[1] : options.defaultSource ?? SOURCE_ANY;
  const key = named ? named[2] : text;
  const slash = key.lastIndexOf("/");
  const prefix = slash < 0 ? undefined : key.slice(0, slash);
  if (!NAME.test(key.slice(slash + 1)) || (prefix !== undefined && !isKeyPrefix(prefix))) {
    return reader.invalid(
      place,
      `${
        JSON.stringify(text.slice(0, 80))
      } is no label key, want an optional DNS name and a slash, then 1 to 63 letters, ` +
        "digits, - _ or . with a letter or digit at both ends",
    );
  }
  return { source, key: (options.keyPrefix ?? "") + key };
}

/** A DNS name; namespace labels inside a pod's labels bring a second one in front (`io.cilium...labels.a.b/name`). */
function isKeyPrefix(prefix: string): boolean {
  return prefix.length <= 253 && DNS_SUBDOMAIN.test(prefix);
}

function readValue(reader: ManifestReader, node: ManifestNode): string | undefined {
  const value = reader.string(node, 4096);
  if (value === undefined) return undefined;
  if (value !== "" && !NAME.test(value)) {
    return reader.invalid(
      node,
      `${
        JSON.stringify(value.slice(0, 80))
      } is no label value, want at most 63 letters, digits, - _ or . with a letter ` +
        "or digit at both ends",
    );
  }
  return value;
}
