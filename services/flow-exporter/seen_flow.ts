/**
 * A flow that is put together when somebody asks for it: of most that pass, nobody ever does, and making the whole message
 * costs ten times what taking note of it does. The names are those of the moment when it was seen, so it makes no
 * difference who asks when.
 * @module
 */
import type { Flow } from "@weir/proto/flow";
import type { Rule } from "@weir/proto/policy";
import type { DatapathEvent } from "./event.ts";
import { buildFlow, type KnownAddress, type Names, type ServiceName, trueSender } from "./flow_builder.ts";
import { type Packet, readPacket } from "./packet.ts";

/** An event with the names of its moment; a flow when it is asked for. */
export class SeenFlow {
  #flow: Flow | undefined;
  readonly #names: SeenNames;
  readonly #bootUnixS: number;

  constructor(
    readonly event: DatapathEvent,
    names: SeenNames,
    bootUnixS: number,
  ) {
    this.#names = names;
    this.#bootUnixS = bootUnixS;
  }

  /** It is no packet, but what a connection has carried. */
  get isTraffic(): boolean {
    return this.event.kind === "traffic";
  }

  /** The whole flow; the same one each time. */
  get flow(): Flow {
    return this.#flow ??= buildFlow(this.event, this.#names, {
      bootUnixS: this.#bootUnixS,
      uuid: crypto.randomUUID(),
    });
  }
}

/** What is known of one event's endpoint and rule. */
interface EventNames {
  readonly endpointId: number;
  /** Who the reporting endpoint is. */
  readonly reporter: KnownAddress | undefined;
  readonly addresses: readonly string[];
  /** DNS names by which it knows the two ends. */
  readonly sourceNames: readonly string[] | undefined;
  readonly destinationNames: readonly string[] | undefined;
  readonly cookie: number | undefined;
  readonly rule: Rule | undefined;
}

/** What a record's events need of the names, taken at once; the events of a record share it. */
export class SeenNames implements Names {
  readonly nodeName: string;
  readonly cluster: string;
  readonly packet: Packet;
  readonly #source: KnownAddress | undefined;
  readonly #destination: KnownAddress | undefined;
  readonly #ofEvents: readonly EventNames[];
  readonly #sourceIdentity: number;
  readonly #sourceLabels: readonly string[] | undefined;
  readonly #destinationIdentity: number;
  readonly #destinationLabels: readonly string[] | undefined;
  /** Of who sent a packet that wears another's address. */
  readonly #senderLabels: readonly string[] | undefined;
  readonly #device: string;
  readonly #known: ServiceName | undefined;
  readonly #sourceService: ServiceName | undefined;
  readonly #destinationService: ServiceName | undefined;

  /** @param events those of one record, at least one: they have one packet */
  constructor(events: readonly DatapathEvent[], names: Names) {
    const [{ packet, layer, sourceIdentity, destinationIdentity, ifindex, service }] = events;
    this.nodeName = names.nodeName;
    this.cluster = names.cluster;
    this.packet = readPacket(packet, layer);
    const { ip, transport } = this.packet;
    this.#source = ip && names.address(ip.source);
    this.#destination = ip && names.address(ip.destination);
    this.#sourceIdentity = sourceIdentity || (this.#source?.identity ?? 0);
    this.#sourceLabels = names.identityLabels(this.#sourceIdentity);
    this.#destinationIdentity = destinationIdentity || (this.#destination?.identity ?? 0);
    this.#destinationLabels = names.identityLabels(this.#destinationIdentity);
    for (const event of events) {
      const sender = trueSender(event, ip?.source, names);
      if (sender !== undefined) this.#senderLabels = names.identityLabels(sender.identity);
    }
    this.#ofEvents = events.map((event) => {
      const { endpointId } = event, cookie = "cookie" in event ? event.cookie : undefined;
      return {
        endpointId,
        reporter: names.endpoint(endpointId),
        addresses: names.endpointAddresses(endpointId),
        sourceNames: ip && names.dnsNames?.(ip.source, endpointId),
        destinationNames: ip && names.dnsNames?.(ip.destination, endpointId),
        cookie,
        rule: cookie === undefined ? undefined : names.rule(cookie),
      };
    });
    this.#device = names.interfaceName(ifindex);
    this.#known = service === 0 ? undefined : names.service(service);
    if (this.#known === undefined && ip && transport && "sourcePort" in transport) {
      const { kind, sourcePort, destinationPort } = transport;
      this.#sourceService = names.serviceAt(ip.source, sourcePort, kind);
      this.#destinationService = names.serviceAt(ip.destination, destinationPort, kind);
    }
  }

  address(ip: string): KnownAddress | undefined {
    if (ip === this.packet.ip?.source) return this.#source;
    return ip === this.packet.ip?.destination ? this.#destination : undefined;
  }
  endpoint(id: number): KnownAddress | undefined {
    return this.#ofEvents.find(({ endpointId }) => endpointId === id)?.reporter;
  }
  identityLabels(identity: number): readonly string[] | undefined {
    if (identity === this.#sourceIdentity) return this.#sourceLabels;
    return identity === this.#destinationIdentity ? this.#destinationLabels : this.#senderLabels;
  }
  rule(cookie: number): Rule | undefined {
    return this.#ofEvents.find((event) => event.cookie === cookie)?.rule;
  }
  endpointAddresses(id: number): readonly string[] {
    return this.#ofEvents.find(({ endpointId }) => endpointId === id)?.addresses ?? [];
  }
  dnsNames(address: string, id: number): readonly string[] {
    const event = this.#ofEvents.find(({ endpointId }) => endpointId === id);
    return (address === this.packet.ip?.source ? event?.sourceNames : event?.destinationNames) ?? [];
  }
  interfaceName(): string {
    return this.#device;
  }
  service(): ServiceName | undefined {
    return this.#known;
  }
  serviceAt(address: string, port: number): ServiceName | undefined {
    const { ip, transport } = this.packet;
    const isSource = address === ip?.source && transport !== undefined && "sourcePort" in transport &&
      port === transport.sourcePort;
    return isSource ? this.#sourceService : this.#destinationService;
  }
}
