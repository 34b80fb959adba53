/**
 * A flow that is put together when somebody asks for it: of most that pass, nobody ever does, and making the whole message
 * costs ten times what taking note of it does. The names are those of the moment when it was seen, so it makes no
 * difference who asks when.
 * @module
 */
import type { Flow } from "@weir/proto/flow";
import type { Rule } from "@weir/proto/policy";
import type { DatapathEvent } from "./event.ts";
import { buildFlow, type KnownAddress, type Names, type ServiceName } from "./flow_builder.ts";
import { type Packet, readPacket } from "./packet.ts";

/** See the module comment. */
export class SeenFlow {
  #flow: Flow | undefined;

  constructor(
    readonly event: DatapathEvent,
    private readonly names: SeenNames,
    private readonly bootUnixS: number,
  ) {}

  /** The whole flow; the same one each time. */
  get flow(): Flow {
    return this.#flow ??= buildFlow(this.event, this.names, {
      bootUnixS: this.bootUnixS,
      uuid: crypto.randomUUID(),
    });
  }
}

/** What a record's events need of the names, taken at once; the events of a record share it. */
export class SeenNames implements Names {
  readonly nodeName: string;
  readonly cluster: string;
  readonly packet: Packet;
  private readonly source: KnownAddress | undefined;
  private readonly destination: KnownAddress | undefined;
  /** Who the reporting endpoint is, by an address of its own. */
  private readonly reporters: readonly (KnownAddress | undefined)[];
  private readonly sourceIdentity: number;
  private readonly sourceLabels: readonly string[] | undefined;
  private readonly destinationLabels: readonly string[] | undefined;
  private readonly rules: readonly (Rule | undefined)[];
  private readonly addresses: readonly (readonly string[])[];
  private readonly device: string;
  private readonly known: ServiceName | undefined;
  private readonly sourceService: ServiceName | undefined;
  private readonly destinationService: ServiceName | undefined;

  /** @param events those of one record, at least one: they have one packet */
  constructor(private readonly events: readonly DatapathEvent[], names: Names) {
    const [{ packet, layer, sourceIdentity, destinationIdentity, ifindex, service }] = events;
    this.nodeName = names.nodeName;
    this.cluster = names.cluster;
    this.packet = readPacket(packet, layer);
    const { ip, transport } = this.packet;
    this.source = ip && names.address(ip.source);
    this.destination = ip && names.address(ip.destination);
    this.sourceIdentity = sourceIdentity || (this.source?.identity ?? 0);
    this.sourceLabels = names.identityLabels(this.sourceIdentity);
    this.destinationLabels = names.identityLabels(destinationIdentity || (this.destination?.identity ?? 0));
    this.rules = events.map((event) => "cookie" in event ? names.rule(event.cookie) : undefined);
    this.addresses = events.map((event) => names.endpointAddresses(event.endpointId));
    this.reporters = this.addresses.map(([own]) => own === undefined ? undefined : names.address(own));
    this.device = names.interfaceName(ifindex);
    this.known = service === 0 ? undefined : names.service(service);
    if (this.known === undefined && ip && transport && "sourcePort" in transport) {
      const { kind, sourcePort, destinationPort } = transport;
      this.sourceService = names.serviceAt(ip.source, sourcePort, kind);
      this.destinationService = names.serviceAt(ip.destination, destinationPort, kind);
    }
  }

  address(ip: string): KnownAddress | undefined {
    if (ip === this.packet.ip?.source) return this.source;
    if (ip === this.packet.ip?.destination) return this.destination;
    return this.reporters[this.addresses.findIndex((own) => own.includes(ip))];
  }
  identityLabels(identity: number): readonly string[] | undefined {
    return identity === this.sourceIdentity ? this.sourceLabels : this.destinationLabels;
  }
  rule(cookie: number): Rule | undefined {
    return this.rules[this.events.findIndex((event) => "cookie" in event && event.cookie === cookie)];
  }
  endpointAddresses(id: number): readonly string[] {
    return this.addresses[this.events.findIndex((event) => event.endpointId === id)] ?? [];
  }
  interfaceName(): string {
    return this.device;
  }
  service(): ServiceName | undefined {
    return this.known;
  }
  serviceAt(address: string, port: number): ServiceName | undefined {
    const { ip, transport } = this.packet;
    const isSource = address === ip?.source && transport !== undefined && "sourcePort" in transport &&
      port === transport.sourcePort;
    return isSource ? this.sourceService : this.destinationService;
  }
}
