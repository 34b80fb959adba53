/**
 * Whether what one part of a rule means lies wholly within what another one means, whoever there is: by the texts alone. The answer "no" may
 * be wrong, "yes" never is.
 * @module
 */
import { type Requirement, type Selector, SOURCE_ANY } from "@weir/common";
import type { PeerSelector, PortMatch } from "../policy.ts";

/** Whether whoever `inner` selects is selected by `outer`. */
export function selectorWithin(inner: Selector, outer: Selector): boolean {
  return outer.requirements.every((wanted) =>
    inner.requirements.some((said) => requirementWithin(said, wanted))
  );
}

function requirementWithin(said: Requirement, wanted: Requirement): boolean {
  if (said.key !== wanted.key) return false;
  const among = (values: readonly string[], others: readonly string[]) =>
    values.every((value) => others.includes(value));
  // One key has one value of one source, and perhaps several of any.
  const isSame = said.source === wanted.source;
  switch (wanted.operator) {
    case "In":
      return said.operator === "In" && (isSame || wanted.source === SOURCE_ANY) &&
        among(said.values, wanted.values);
    case "Exists":
      return (said.operator === "In" || said.operator === "Exists") &&
        (isSame || wanted.source === SOURCE_ANY);
    case "DoesNotExist":
      return said.operator === "DoesNotExist" && (isSame || said.source === SOURCE_ANY);
    case "NotIn":
      if (said.operator === "In") {
        return isSame && said.source !== SOURCE_ANY &&
          !said.values.some((value) => wanted.values.includes(value));
      }
      return (isSame || said.source === SOURCE_ANY) &&
        (said.operator === "DoesNotExist" ||
          said.operator === "NotIn" && among(wanted.values, said.values));
  }
}

/** Whether whoever `inner` means is meant by `outer`. */
export function peerWithin(inner: PeerSelector, outer: PeerSelector): boolean {
  if (outer.type === "any" || inner.key === outer.key) return true;
  if (inner.type === "labels" && outer.type === "labels") {
    return selectorWithin(inner.selector, outer.selector);
  }
  if (inner.type !== "cidr" || outer.type !== "cidr" || !outer.prefix.contains(inner.prefix)) return false;
  return outer.except.every((left) =>
    !left.contains(inner.prefix) &&
    (!inner.prefix.contains(left) || inner.except.some((one) => one.contains(left)))
  );
}

/** Whether every connection of `inner` is one of `outer`; L7 rules are not looked at. */
export function portWithin(inner: PortMatch, outer: PortMatch): boolean {
  if (outer.protocol === 0) return true;
  if (inner.protocol !== outer.protocol) return false;
  if (inner.name === outer.name) return outer.first <= inner.first && inner.last <= outer.last;
  return outer.name === "" && outer.first === 0 && outer.last === 65535;
}
