/**
 * Whether the addresses of names can be learned at all: only from answers to questions that go through the DNS proxy, and a question goes
 * there, and passes, by a rule with `rules.dns`. `toFQDNs` without one is the commonest mistake with it.
 * @module
 */
import { canonicalName, compileName, compileNamePattern, type NameMatcher } from "@weir/l7-rules";
import type { DnsRule } from "@weir/proto/l7";
import { formatFqdnName, type FqdnName } from "./fqdn_selector.ts";
import type { PolicyRule } from "./policy.ts";

/** What the rules that select one subject let the proxy hear. */
export class NameLearning {
  #isRedirected = false;
  /** What the rules of names let pass. */
  readonly #passes: NameMatcher[] = [];
  /** A rule without names allows the same: every question passes. */
  #isUnrestricted = false;

  constructor(rules: Iterable<PolicyRule>) {
    for (const { directions: { EGRESS } } of rules) {
      for (const { deny, peers, ports } of EGRESS.sections) {
        if (deny || peers.length === 0) continue;
        // Who is a name server has an address that is known before any name.
        if (peers.every(({ selector }) => selector.type === "fqdn")) continue;
        for (const { protocol, first, last, name, rules: judged } of ports) {
          if (judged?.kind === "DNS") {
            this.#isRedirected = true;
            if (!EGRESS.defaultDeny) this.#isUnrestricted = true;
            for (const { rule } of judged.rules) {
              const { matchName, matchPattern } = rule as DnsRule;
              this.#passes.push(matchName === "" ? compileNamePattern(matchPattern) : compileName(matchName));
            }
          } else if (judged === undefined && (protocol === 0 || name === "" && first <= 53 && 53 <= last)) {
            this.#isUnrestricted = true;
          }
        }
      }
    }
  }

  /** Some question of the subject goes through the proxy. */
  get isRedirected(): boolean {
    return this.#isRedirected;
  }

  /** Why no address of what a selector means is ever learned; undefined: it may be. */
  lacks(selector: FqdnName): string | undefined {
    const text = formatFqdnName(selector);
    if (!this.#isRedirected) {
      return `${text} selects no address: no rule sends the DNS of these endpoints through the proxy, ` +
        'want one with rules: { dns: [{ matchPattern: "*" }] } for the port 53 of the name server';
    }
    if (this.#isUnrestricted || this.#passes.some((passes) => passes(sampleOf(selector)))) return undefined;
    // Of a pattern some other name may pass.
    if (selector.matchName === "") return undefined;
    return `${text} selects no address: no dns rule of these endpoints lets them ask for it`;
  }
}

/** A name that it means. */
function sampleOf({ matchName, matchPattern }: FqdnName): string {
  return canonicalName(matchName || matchPattern.replaceAll(/\*+/g, "x"));
}
