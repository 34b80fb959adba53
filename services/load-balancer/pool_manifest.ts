/**
 * Reading of address pools: weir.io AddressPool, and Cilium's CiliumLoadBalancerIPPool.
 * @module
 */
import type { Requirement } from "@weir/common";
import { formatRequirement, Selector, SelectorError, SOURCE_ANY } from "@weir/common";
import {
  describe,
  type ManifestNode,
  type ManifestObject,
  type ManifestReader,
  toValue,
} from "@weir/common/manifest";
import { parseRange, rangeText } from "./address_range.ts";
import type { PoolSpec } from "./model.ts";

/** Most ranges of one pool. */
export const RANGES_MAX = 256;

/** Reads the object; undefined after a fault. */
export function readPool(context: ManifestObject): PoolSpec | undefined {
  const { reader, root, name, kind } = context;
  const top = reader.map(root, ["apiVersion", "kind", "metadata", "spec", "status"]);
  const node = top?.get("spec");
  if (node === undefined) return reader.invalid(root, "spec is missing");
  const cilium = kind === "CiliumLoadBalancerIPPool";
  const fields = reader.map(
    node,
    cilium
      ? ["blocks", "cidrs", "allowFirstLastIPs", "serviceSelector", "disabled"]
      : ["ranges", "serviceSelector", "disabled"],
  );
  if (fields === undefined) return undefined;
  return {
    name,
    ranges: cilium ? readBlocks(reader, fields) : readRanges(reader, fields.get("ranges") ?? node),
    serviceSelector: readSelector(reader, fields.get("serviceSelector")),
    disabled: reader.boolean(fields.get("disabled")) ?? false,
  };
}

function readRanges(reader: ManifestReader, node: ManifestNode): string[] {
  return (reader.list(node, RANGES_MAX) ?? []).flatMap((item) =>
    readRange(reader, item, reader.string(item, 100))
  );
}

function readRange(reader: ManifestReader, place: ManifestNode, text: string | undefined): string[] {
  const range = text === undefined ? undefined : parseRange(text);
  if (range === undefined) {
    reader.invalid(place, `${describe(place)}, want a prefix or FIRST-LAST of one family`);
    return [];
  }
  return [rangeText(range)];
}

function readBlocks(reader: ManifestReader, fields: ReadonlyMap<string, ManifestNode>): string[] {
  // Said by Cilium as Yes or No; YAML 1.1 readers may have made it true or false.
  const firstLast = fields.get("allowFirstLastIPs")?.scalar;
  const trim = firstLast === "No" || firstLast === false;
  const ranges: string[] = [];
  for (const item of reader.list(fields.get("blocks") ?? fields.get("cidrs"), RANGES_MAX) ?? []) {
    const block = reader.map(item, ["cidr", "start", "stop"]);
    if (block === undefined) continue;
    const cidr = reader.string(block.get("cidr"), 64), start = reader.string(block.get("start"), 64);
    const stop = reader.string(block.get("stop"), 64) ?? start;
    const text = cidr ?? (start === undefined ? undefined : `${start}-${stop}`);
    const range = text === undefined ? undefined : parseRange(text);
    if (range === undefined) {
      reader.invalid(item, `${JSON.stringify(toValue(item))}, want cidr, or start and stop of one family`);
      continue;
    }
    if (cidr !== undefined && trim && range.last - range.first >= 2n) {
      range.first++;
      range.last--;
    }
    ranges.push(rangeText(range));
  }
  return ranges;
}

function readSelector(reader: ManifestReader, node: ManifestNode | undefined): string[] {
  if (node === undefined) return [];
  if (reader.map(node, ["matchLabels", "matchExpressions"]) === undefined) return [];
  try {
    return Selector.parse(toValue(node) as never).requirements.map(termText);
  } catch (error) {
    reader.invalid(node, error instanceof SelectorError ? error.message : "it is no label selector");
    return [];
  }
}

function termText(requirement: Requirement): string {
  return formatRequirement(requirement).replace(`${SOURCE_ANY}:`, "");
}
