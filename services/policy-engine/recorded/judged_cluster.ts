/**
 * Recorded connections judged by policies: a repository of its own with the policies, the workloads of the record and whoever else is known.
 * A connection passes when the egress policy of who asks and the ingress policy of who is asked let it pass, as in the datapath.
 *
 *     from ──▶ its egress policy ──▶ its peer: to       to ──▶ its ingress policy ──▶ its peer: from
 *
 * @module
 */
import {
  IDENTITY_ALLOCATED_MAX,
  IDENTITY_ALLOCATED_MIN,
  IDENTITY_HOST,
  IDENTITY_WORLD_IPV4,
  IDENTITY_WORLD_IPV6,
  identityOfMany,
  MapState,
  Prefix,
  PrefixTrie,
  type Verdict,
} from "@weir/common";
import type { RuleSource } from "@weir/proto/policy";
import { describeIdentity } from "../explain_words.ts";
import { fqdnMatcher, isFqdnText, parseFqdnName } from "../fqdn_selector.ts";
import { withImpliedLabels } from "../implied_labels.ts";
import type { NamedPort } from "../named_ports.ts";
import type { Direction } from "../policy.ts";
import { PolicyRepository } from "../policy_repository.ts";
import type { EndBook, RecordedEnd } from "./recorded_end.ts";
import type { RecordedConnection } from "./recorder.ts";

/** What policies say of one connection. */
export interface Judgement {
  readonly allowed: boolean;
  /** Requests on it are judged by L7 rules. */
  readonly isJudged: boolean;
  /** What each side says; undefined: it has no policy. */
  readonly egress: Verdict | undefined;
  readonly ingress: Verdict | undefined;
}

/** Where rules stand, by their cookies. */
export type RuleSources = ReadonlyMap<number, readonly RuleSource[]>;

/** Ports by name, by the end's key or by `NAMESPACE/WORKLOAD`. */
export type PortsOf = (end: RecordedEnd) => readonly NamedPort[];

/** Judges. Policies may be put into the repository between judgements; {@link refresh} is to be called then. */
export class JudgedCluster {
  readonly repository: PolicyRepository;
  readonly #book: EndBook;
  readonly #portsOf: PortsOf;
  /** Numbers of pods by their labels. */
  readonly #byLabels = new Map<string, number>();
  readonly #numbers = new Map<RecordedEnd, number>();
  readonly #identities = new Map<RecordedEnd, readonly number[]>();
  readonly #states = new Map<string, MapState>();
  #trie = new PrefixTrie<{ readonly text: string; readonly identity: number }>();
  #names: { readonly identity: number; readonly means: (name: string) => boolean }[] = [];
  #subjectNames: ReadonlyMap<number, string> | undefined;
  #next = IDENTITY_ALLOCATED_MIN;

  constructor(
    repository: PolicyRepository,
    book: EndBook,
    { cluster, portsOf = () => [] }: { cluster: string; portsOf?: PortsOf },
  ) {
    this.repository = repository;
    this.#book = book;
    this.#portsOf = portsOf;
    for (const { number, labels } of repository.identities()) {
      if (number >= IDENTITY_ALLOCATED_MIN) this.#byLabels.set(labels.key, number);
    }
    for (const end of book.ends) {
      if (end.kind !== "pod" && end.kind !== "labelled") continue;
      const labels = withImpliedLabels(IDENTITY_ALLOCATED_MIN, end.labels, cluster);
      let number = this.#byLabels.get(labels.key);
      if (number === undefined) {
        while (repository.identity(this.#next) !== undefined) this.#next++;
        // More ends than numbers are not there: the book has fewer workloads.
        if (this.#next > IDENTITY_ALLOCATED_MAX) break;
        number = this.#next;
        repository.upsertIdentity(number, labels);
        this.#byLabels.set(labels.key, number);
      }
      this.#numbers.set(end, number);
      const ports = portsOf(end);
      if (ports.length > 0) repository.setNamedPorts(`end-${end.index}`, number, ports);
    }
    this.refresh();
  }

  /** Policies changed. */
  refresh(): void {
    this.#states.clear();
    this.#identities.clear();
    this.#trie = new PrefixTrie();
    this.#names = [];
    for (const { prefix: text, identity } of this.repository.mentionedPairs()) {
      if (isFqdnText(text)) this.#names.push({ identity, means: fqdnMatcher(parseFqdnName(text)!) });
      else {
        const prefix = Prefix.parse(text);
        this.#trie.add(prefix, { text, identity });
      }
    }
  }

  /** Number of an end that policies select; undefined for others. */
  subjectOf(end: RecordedEnd): number | undefined {
    const known = this.#book.known(end);
    return known.kind === "pod" ? this.#numbers.get(known) : undefined;
  }

  /** Whether it is known who the end is. */
  knows(end: RecordedEnd): boolean {
    const { kind } = this.#book.known(end);
    return kind !== "unknown" && (kind !== "pod" && kind !== "labelled" || this.identitiesOf(end).length > 0);
  }

  /** As whom others' policies know an end: what is said of each of these is said of it. */
  identitiesOf(given: RecordedEnd): readonly number[] {
    const end = this.#book.known(given);
    let found = this.#identities.get(end);
    if (found === undefined) this.#identities.set(end, found = this.#resolve(end));
    return found;
  }

  #resolve(end: RecordedEnd): readonly number[] {
    if (end.kind === "reserved") return [end.identity];
    if (end.address === undefined || end.kind !== "address") {
      const number = this.#numbers.get(end);
      return number === undefined ? [] : [number];
    }
    const many = identityOfMany(end.address);
    if (many !== undefined) return [many];
    let identity = end.address.family === 4 ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6;
    for (const around of this.#trie.around(Prefix.host(end.address))) identity = around.identity;
    const names = this.#names.filter(({ means }) => [...end.names].some((name) => means(name)));
    return [identity, ...names.map(({ identity }) => identity)];
  }

  /** Workloads by the node that has them, as the record says. */
  hosted(): Map<string, Set<number>> {
    const found = new Map<string, Set<number>>();
    for (const end of this.#book.ends) {
      const subject = this.subjectOf(end);
      if (subject === undefined) continue;
      for (const node of end.nodes) {
        const subjects = found.get(node);
        if (subjects === undefined) found.set(node, new Set([subject]));
        else subjects.add(subject);
      }
    }
    return found;
  }

  /** What an identity is called: the workload that has it, or its labels. */
  subjectName(number: number): string {
    this.#subjectNames ??= new Map([...this.#numbers].map(([end, number]) => [number, end.name]));
    const identity = this.repository.identity(number);
    return this.#subjectNames.get(number) ??
      (identity === undefined ? `identity ${number}` : describeIdentity(identity));
  }

  nameOf(end: RecordedEnd): string {
    return this.#book.known(end).name;
  }

  /** The longest prefix of the policies around an outside end, "10.0.0.0/8"; undefined: there is none. */
  prefixOf({ address }: RecordedEnd): string | undefined {
    let text: string | undefined;
    for (const around of address === undefined ? [] : this.#trie.around(Prefix.host(address))) {
      text = around.text;
    }
    return text;
  }

  /** Undefined: an end is not known, or the policy of one cannot be resolved. */
  judge(
    { from, to, protocol, port }: Pick<RecordedConnection, "from" | "to" | "protocol" | "port">,
  ): Judgement | undefined {
    const source = this.#book.known(from), destination = this.#book.known(to);
    if (!this.knows(source) || !this.knows(destination)) return undefined;
    // A pod always reaches itself, and which of a workload's pods it was nobody knows: both are judged alike.
    const egress = this.#verdict(source, destination, "EGRESS", protocol, port);
    const ingress = this.#verdict(destination, source, "INGRESS", protocol, port);
    if (egress === null || ingress === null) return undefined;
    return {
      allowed: (egress?.allowed ?? true) && (ingress?.allowed ?? true),
      isJudged: isJudged(egress) || isJudged(ingress),
      egress,
      ingress,
    };
  }

  /** Undefined: no policy is about it; null: it cannot be told. */
  #verdict(
    subject: RecordedEnd,
    remote: RecordedEnd,
    direction: Direction,
    protocol: number,
    port: number,
  ): Verdict | undefined | null {
    const number = this.subjectOf(subject);
    if (number === undefined) return undefined;
    // The host always reaches its own endpoints, as the datapath has it (lib/decide.h).
    if (direction === "INGRESS" && remote.identity === IDENTITY_HOST && remote.kind === "reserved") {
      return undefined;
    }
    const group = this.repository.group(number);
    if (group === undefined) return undefined;
    if (group.isFaulty || this.repository.holdOf(number) !== undefined) return null;
    const ports = direction === "INGRESS" ? this.#portsOf(subject) : [];
    let best: Verdict | undefined;
    for (const identity of this.identitiesOf(remote)) {
      const key = `${number}/${identity}/${ports.length === 0 ? "" : JSON.stringify(ports)}`;
      let state = this.#states.get(key);
      if (state === undefined) {
        const head = group.state().head(number, this.repository.policyRevision);
        state = MapState.of({ ...head, entries: group.entriesFor(identity) }, ports);
        this.#states.set(key, state);
      }
      const verdict = state.lookup(identity, direction, protocol, port);
      // Of several identities the entry of the highest precedence counts, as in the joined map state of a node.
      if (best === undefined || (verdict.entry?.precedence ?? -1) > (best.entry?.precedence ?? -1)) {
        best = verdict;
      }
    }
    return best;
  }

  /** Where the rules behind judgements stand now. A policy that is written anew keeps the cookies of its rules, and moves them. */
  sourcesOf(judgements: Iterable<Judgement | undefined>): RuleSources {
    const sources = new Map<number, readonly RuleSource[]>();
    for (const judgement of judgements) {
      for (const cookie of [judgement?.egress?.cookie ?? 0, judgement?.ingress?.cookie ?? 0]) {
        if (cookie === 0 || sources.has(cookie)) continue;
        sources.set(cookie, [...this.repository.cookies.get(cookie)?.sources ?? []]);
      }
    }
    return sources;
  }

  /** The rules that decide: of a refusal those of the sides that refuse, of a connection those that allow. */
  decidersOf({ allowed, egress, ingress }: Judgement, sources: RuleSources): RuleSource[] {
    const found = new Map<string, RuleSource>();
    for (const [at, verdict] of [egress, ingress].entries()) {
      if (verdict === undefined || verdict.allowed !== allowed || verdict.cookie === 0) continue;
      for (const source of sources.get(verdict.cookie) ?? []) {
        found.set(`${at}/${source.policy}#${source.path}`, source);
      }
    }
    return [...found.values()];
  }
}

function isJudged(verdict: Verdict | undefined): boolean {
  return verdict !== undefined && verdict.allowed && verdict.ruleSets.length > 0 && verdict.plainCookie === 0;
}

/** A repository for judgements, of nobody's policies. */
export function newRepository(): PolicyRepository {
  return new PolicyRepository();
}
