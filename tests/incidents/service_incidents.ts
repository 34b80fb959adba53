/** Incidents with services. @module */
import { HTTP, pod, policy, serves, service, WEB } from "./cast.ts";
import type { Incident } from "./incident.ts";

const ask = (to: string, port = "80") => ["explain", "--from", "shop/client", "--to", to, "-p", port];
const traffic = (to: string, port = 80) => [`from: shop/client, to: ${to}, port: ${port}`];
const IP = "10.96.77.7";
const web = (spec: string, ports = "[{ name: http, port: 80, targetPort: http }]") =>
  service("web", `{ clusterIP: ${IP}, ports: ${ports}, ${spec} }`);

/** Says that web-2 is behind the service. */
const slice = (name: string, port: number) =>
  `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: by-hand, namespace: shop, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ name: ${name}, port: ${port} }]
endpoints: [{ addresses: ["address-of:shop/web-2"] }]
`;

export const SERVICE_INCIDENTS: readonly Incident[] = [
  {
    name: "a service works, and is said to",
    manifests: web("selector: { app: web }"),
    ask: ask(IP),
    says: [/ALLOWED$/m, /goes to 2 backends/, /backend +shop\/web-1 .* on node-1/],
    code: 0,
  },
  {
    name: "no pod has the labels of the service",
    manifests: web("selector: { app: wbe }"),
    traffic: traffic(IP),
    ask: ask("service/web").concat("-n", "shop"),
    says: [/ALLOWED, and it FAILS/, /no pod of namespace shop has the labels app=wbe/],
    code: 4,
    fix: { says: /app=wbe/, replace: ["app: wbe", "app: web"] },
  },
  {
    name: "the service's port name is on no container",
    manifests: web("selector: { app: web }", "[{ name: http, port: 80, targetPort: htpp }]"),
    traffic: traffic(IP),
    ask: ask(IP),
    says: [/none of its containers has a TCP port named htpp: they have http \(8080\)/],
    code: 4,
    fix: { says: /htpp/, replace: ["targetPort: htpp", "targetPort: http"] },
  },
  {
    name: "the readiness probe fails",
    manifests: pod(
      "slow",
      2,
      "app: slow",
      serves("8080/TCP"),
      `${HTTP}, readinessProbe: { tcpSocket: { port: 8081 } }`,
    ) + web("selector: { app: slow }"),
    traffic: traffic(IP),
    ask: ask(IP),
    says: [
      /not +shop\/slow on node-2: it is not ready: its readinessProbe fails: nothing listens on 8081\/TCP/,
    ],
    code: 4,
    fix: { says: /8081/, replace: ["port: 8081", "port: 8080"] },
  },
  {
    name: "the server listens for itself only",
    manifests: pod(
      "shy",
      2,
      "app: shy",
      `[python3, -m, http.server, "8080", --bind, 127.0.0.1]`,
      `${HTTP}, readinessProbe: { tcpSocket: { port: 8080 } }`,
    ) + web("selector: { app: shy }"),
    traffic: traffic(IP),
    ask: ask(IP),
    says: [/8080\/TCP is listened on at 127\.0\.0\.1 or ::1 only/],
    code: 4,
    fix: { says: /127\.0\.0\.1/, replace: [", --bind, 127.0.0.1", ""] },
  },
  {
    name: "another port of the service is asked for",
    manifests: web("selector: { app: web }"),
    traffic: [],
    ask: ask(IP, "8080"),
    says: [/has no port 8080\/TCP: it has http 80\/TCP/, /Ask for http 80\/TCP/],
    code: 4,
  },
  {
    name: "internalTrafficPolicy Local, and no backend here",
    manifests: pod("far", 2, "app: far", serves("8080/TCP"), HTTP) +
      web("selector: { app: far }, internalTrafficPolicy: Local"),
    traffic: traffic(IP),
    ask: ask(IP),
    says: [/no backend on node-1, and internalTrafficPolicy is Local \(there are some on node-2\)/],
    code: 4,
    fix: {
      says: /internalTrafficPolicy: Cluster/,
      replace: ["internalTrafficPolicy: Local", "internalTrafficPolicy: Cluster"],
    },
  },
  {
    name: "policy allows the service's port and not the pod's",
    manifests: web("selector: { app: web }") + policy(
      "web",
      `{ ${WEB}, ingress: [{ fromEndpoints: [{}], toPorts: [{ ports: [{ port: "80", protocol: TCP }] }] }] }`,
    ),
    traffic: traffic(IP),
    ask: ask(IP),
    says: [/DENIED/, /allows 80\/TCP; you asked for 8080\/TCP/],
    code: 3,
    fix: { says: /Add port 8080\/TCP/, replace: [`"80"`, `"8080"`] },
  },
  {
    name: "a backend is in maintenance",
    manifests: pod("only", 2, "app: only", serves("8080/TCP"), HTTP) + web("selector: { app: only }"),
    setup: [["service", "backend", "shop/web", "address-of:shop/only", "--state", "maintenance"]],
    cleanup: [["service", "backend", "shop/web", "address-of:shop/only", "--clear"]],
    traffic: traffic(IP),
    ask: ask(IP),
    says: [/in maintenance/],
    code: 4,
    fix: "command",
  },
  {
    name: "the source is in none of the ranges",
    manifests: `---
apiVersion: cilium.io/v2
kind: CiliumLoadBalancerIPPool
metadata: { name: incidents }
spec: { blocks: [{ cidr: 192.0.2.0/28 }] }
` + service(
        "web",
        `{ type: LoadBalancer, loadBalancerIP: 192.0.2.7, selector: { app: web }, loadBalancerSourceRanges: [203.0.113.0/24], ports: [{ name: http, port: 80, targetPort: http }] }`,
      ),
    ask: ["explain", "--from", "198.51.100.10", "--to", "192.0.2.7", "-p", "80"],
    says: [/the source 198\.51\.100\.10 is in none of the source ranges \(203\.0\.113\.0\/24\)/],
    code: 4,
  },
  {
    name: "two services want one address and port",
    manifests: service(
      "first",
      "{ externalIPs: [192.0.2.99], selector: { app: web }, ports: [{ port: 80, targetPort: http }] }",
    ) + service(
      "second",
      "{ externalIPs: [192.0.2.99], selector: { app: web }, ports: [{ port: 80, targetPort: http }] }",
    ),
    ask: ["service", "list", "-n", "shop", "-o", "wide"],
    says: [/192\.0\.2\.99:80\/TCP belongs to shop\/first/],
  },
  {
    name: "a headless service has no address",
    manifests: service("none", "{ clusterIP: None, selector: { app: web }, ports: [{ port: 8080 }] }"),
    ask: ask("service/none").concat("-n", "shop"),
    says: [/headless/],
    code: 4,
  },
  {
    name: "an EndpointSlice by hand has another port name",
    manifests: service("web", `{ clusterIP: ${IP}, ports: [{ name: http, port: 80 }] }`) + slice("web", 8080),
    traffic: traffic(IP),
    ask: ask(IP),
    says: [
      /no ready endpoint of its EndpointSlices \(by-hand\) has a port named http: they have web \(8080\/TCP\)/,
    ],
    code: 4,
    fix: {
      says: /Give a port of its EndpointSlice the name http/,
      replace: ["ports: [{ name: web, port: 8080 }]", "ports: [{ name: http, port: 8080 }]"],
    },
  },
  {
    name: "an EndpointSlice by hand has a port where nothing listens",
    manifests: service("web", `{ clusterIP: ${IP}, ports: [{ name: http, port: 80 }] }`) +
      slice("http", 8081),
    ask: ask(IP),
    says: [
      /10\.96\.77\.7:80\/TCP goes to 1 backend/,
      /nothing listens on 8081\/TCP; .*listens on \S*:8080\/TCP/,
    ],
    code: 4,
    fix: {
      says: /Set the target port .* to one that is listened on: 8080/,
      replace: ["port: 8081", "port: 8080"],
    },
  },
  {
    name: "a service is only another name",
    manifests: service("web", "{ type: ExternalName, externalName: shop.example }"),
    ask: ask("service/web").concat("-n", "shop"),
    says: [/ExternalName/, /Ask for the DNS name that it stands for: --to shop\.example/],
    code: 4,
  },
  {
    name: "the node that is asked has no backend, and the policy is Local",
    manifests: web(
      "type: NodePort, externalTrafficPolicy: Local, selector: { number: two }",
      "[{ name: http, port: 80, targetPort: http, nodePort: 30077 }]",
    ),
    ask: ["explain", "--from", "world", "--to", "node-1", "-p", "30077"],
    says: [
      /node-1:30077\/TCP has no backend on node-1, and externalTrafficPolicy is Local \(there are some on node-2\)/,
      /Ask node-2 instead/,
    ],
    code: 4,
  },
  {
    name: "a node port is asked of the service's own address",
    manifests: web(
      "type: NodePort, selector: { app: web }",
      "[{ name: http, port: 80, targetPort: http, nodePort: 30077 }]",
    ),
    traffic: traffic(IP, 30077),
    ask: ask(IP, "30077"),
    says: [/it has no port 30077\/TCP: it has http 80\/TCP/],
    code: 4,
  },
  {
    name: "a pod reaches itself through its service, whatever policy says",
    manifests: web("selector: { number: one }") +
      policy("web", `{ ${WEB}, ingress: [{ fromEndpoints: [{ matchLabels: { app: stranger } }] }] }`),
    ask: ["explain", "--from", "shop/web-1", "--to", IP, "-p", "80"],
    says: [/ALLOWED$/m, /it reaches itself: no policy applies to that/],
    saysNot: [/DENIED/],
    code: 0,
  },
  {
    name: "the address of a service that is not there",
    ask: ask("10.96.77.99"),
    says: [/nobody in this cluster has this address: no pod, service or node/],
  },
  {
    name: "the target port is not the one that the pod listens on",
    manifests: web("selector: { app: web }", "[{ port: 80, targetPort: 9999 }]"),
    traffic: traffic(IP),
    ask: ask(IP),
    says: [/Set the target port of service shop\/web .* to one that is listened on: 8080/],
    code: 4,
    fix: { says: /8080/, replace: ["targetPort: 9999", "targetPort: 8080"] },
  },
  {
    name: "a host port is asked of another node",
    manifests: pod(
      "hosted",
      1,
      "app: hosted",
      serves("8080/TCP"),
      ", ports: [{ containerPort: 8080, hostPort: 8888 }]",
    ),
    ask: ["explain", "--from", "world", "--to", "node-2", "-p", "8888"],
    says: [/but +shop\/hosted has it as its host port on node-1/],
  },
  {
    name: "a host port is found",
    manifests: pod(
      "hosted",
      1,
      "app: hosted",
      serves("8081/TCP"),
      ", ports: [{ containerPort: 8080, hostPort: 8888 }]",
    ),
    ask: ["explain", "--from", "world", "--to", "node-1", "-p", "8888"],
    says: [/node-1:8888\/TCP goes to 1 backend/, /shop\/hosted: nothing listens on 8080\/TCP/],
    code: 4,
  },
  {
    name: "who is outside asks a service that has no address for outside",
    manifests: service(
      "web",
      "{ type: LoadBalancer, selector: { app: web }, ports: [{ port: 80, targetPort: http }] }",
    ),
    ask: ["explain", "--from", "world", "--to", "service/web", "-n", "shop", "-p", "80"],
    says: [
      /is its cluster IP, which nobody outside of the cluster reaches; it has no other address: no address pool serves this service/,
      /Ask a node for its node port: --to NODE -p \d+/,
    ],
    code: 4,
  },
];
