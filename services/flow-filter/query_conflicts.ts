/**
 * Filters that exclude each other: which ones, and what they would mean, is as with `hubble observe`.
 * @module
 */
import { ProblemError } from "@weir/common/problem";

/** Of each of these at most one may be given. */
const EXCLUSIVE: readonly (readonly string[])[] = [
  ["from-fqdn", "from-ip", "ip", "fqdn", "from-namespace", "namespace"],
  ["from-fqdn", "from-ip", "ip", "fqdn", "from-pod", "pod"],
  ["to-fqdn", "to-ip", "ip", "fqdn", "to-namespace", "namespace"],
  ["to-fqdn", "to-ip", "ip", "fqdn", "to-pod", "pod"],
  ["to-pod", "namespace"],
  ["from-pod", "namespace"],
  ["to-service", "namespace"],
  ["from-service", "namespace"],
  ["label", "from-label"],
  ["label", "to-label"],
  ["service", "from-service"],
  ["service", "to-service"],
  ["port", "from-port"],
  ["port", "to-port"],
  ["identity", "from-identity"],
  ["identity", "to-identity"],
  ["workload", "from-workload"],
  ["workload", "to-workload"],
];

function conflict(detail: string, action: string): ProblemError {
  return new ProblemError("QUERY_INVALID", { status: 400, detail, action });
}

/** @throws {ProblemError} QUERY_INVALID: two of them cannot be combined */
export function assertTogether(names: readonly string[]): void {
  for (const group of EXCLUSIVE) {
    const [one, other] = group.filter((name) => names.includes(name));
    if (other === undefined) continue;
    throw conflict(
      `Cannot combine ${one} and ${other}: each says who an end is`,
      `Leave one of them out, or put the second after --not`,
    );
  }
}

const namespaceOf = (name: string) => name.includes("/") ? name.slice(0, name.indexOf("/")) : "";

/**
 * A pod that is named with a namespace is in that one, and a service in its pod's.
 * @throws {ProblemError} QUERY_INVALID
 */
export function assertNamespacesAgree(given: ReadonlyMap<string, readonly string[]>): void {
  for (const end of ["from", "to"]) {
    const of = (what: string) => given.get(`${end}-${what}`) ?? [];
    for (const namespace of of("namespace")) {
      for (const name of [...of("pod"), ...of("service")]) {
        const own = namespaceOf(name);
        if (own === "" || own === namespace) continue;
        throw conflict(
          `Cannot look for ${name} in namespace "${namespace}": it says another one itself`,
          "Leave out the namespace",
        );
      }
    }
    for (const pod of of("pod").filter((name) => namespaceOf(name) !== "")) {
      const other = of("service").find((service) => namespaceOf(service) !== namespaceOf(pod));
      if (other === undefined) continue;
      throw conflict(
        `Cannot combine pod ${pod} and service ${other}: they are in different namespaces`,
        "Name both with their namespace",
      );
    }
  }
}
