/**
 * The page's few signs, drawn on a grid of 16. They stand beside words, and are nothing to a screen reader.
 * @module
 */
import type { ReactNode } from "react";

const icon = (path: ReactNode, { fill = false } = {}) => () => (
  <svg
    className="icon"
    viewBox="0 0 16 16"
    fill={fill ? "currentColor" : "none"}
    stroke={fill ? "none" : "currentColor"}
    strokeWidth="1.6"
    strokeLinecap="round"
    strokeLinejoin="round"
    aria-hidden="true"
  >
    {path}
  </svg>
);

export const CheckIcon = icon(<path d="m3 8.5 3.2 3.2L13 4.8" />);
export const CrossIcon = icon(<path d="m4 4 8 8M12 4l-8 8" />);
export const HalfIcon = icon(
  <>
    <circle cx="8" cy="8" r="5.5" />
    <path d="M8 2.5a5.5 5.5 0 0 1 0 11z" fill="currentColor" stroke="none" />
  </>,
);
export const AlertIcon = icon(
  <>
    <path d="M8 2.2 14.4 13.4H1.6z" />
    <path d="M8 6.5v3M8 11.6v.1" />
  </>,
);
export const DotIcon = icon(<circle cx="8" cy="8" r="3" fill="currentColor" />);
export const SearchIcon = icon(
  <>
    <circle cx="7" cy="7" r="4.2" />
    <path d="m10.3 10.3 3.4 3.4" />
  </>,
);
export const CopyIcon = icon(
  <>
    <rect x="5.5" y="5.5" width="8" height="8" rx="1.6" />
    <path d="M10.5 5.5v-1.4a1.6 1.6 0 0 0-1.6-1.6H4.1a1.6 1.6 0 0 0-1.6 1.6v4.8a1.6 1.6 0 0 0 1.6 1.6h1.4" />
  </>,
);
export const PauseIcon = icon(<path d="M5.5 3.5v9M10.5 3.5v9" />);
export const PlayIcon = icon(<path d="M4.8 3.2v9.6L12.6 8z" fill="currentColor" />);
export const ArrowIcon = icon(<path d="M2.5 8h11M9.5 4l4 4-4 4" />);
export const ChevronDownIcon = icon(<path d="m4 6 4 4 4-4" />);
export const ChevronRightIcon = icon(<path d="m6 4 4 4-4 4" />);
export const PlusIcon = icon(<path d="M8 3v10M3 8h10" />);
export const MinusIcon = icon(<path d="M3 8h10" />);
export const FitIcon = icon(<path d="M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10" />);
export const TidyIcon = icon(
  <path d="M2.5 3.5h4v3h-4zM9.5 2.5h4v3h-4zM9.5 9.5h4v4h-4zM6.5 5h3M6.5 5.5 9.5 11" />,
);
export const ColumnsIcon = icon(<path d="M2.5 3h11v10h-11zM6.2 3v10M9.8 3v10" />);
export const SunIcon = icon(
  <>
    <circle cx="8" cy="8" r="2.8" />
    <path d="M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9" />
  </>,
);
export const MoonIcon = icon(<path d="M13.2 9.6A5.6 5.6 0 0 1 6.4 2.8a5.6 5.6 0 1 0 6.8 6.8z" />);
export const KeysIcon = icon(
  <path d="M1.5 4.5h13v7h-13zM4 7h.1M6.6 7h.1M9.3 7h.1M12 7h.1M5 9.3h6" />,
);
export const BoxIcon = icon(<path d="M8 1.8 13.6 5v6L8 14.2 2.4 11V5zM2.6 5.1 8 8.2l5.4-3.1M8 8.2v6" />);
export const GlobeIcon = icon(
  <>
    <circle cx="8" cy="8" r="5.8" />
    <path d="M2.2 8h11.6M8 2.2c2 1.8 2.6 3.7 2.6 5.8S10 12 8 13.8C6 12 5.4 10.1 5.4 8S6 4 8 2.2z" />
  </>,
);
export const ServerIcon = icon(
  <path d="M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.1M5 11h.1" />,
);
export const NameIcon = icon(<path d="M6 2.5 4.6 13.5M11.4 2.5 10 13.5M2.5 5.6h11.2M2.2 10.4h11.2" />);
export const LayersIcon = icon(<path d="M8 2 14 5.2 8 8.4 2 5.2zM2.4 8.2 8 11.2l5.6-3M2.4 11 8 14l5.6-3" />);
export const TagIcon = icon(<path d="M2.5 2.5h5L14 9l-5 5-6.5-6.5zM5.2 5.2h.1" />);
export const ClockIcon = icon(
  <>
    <circle cx="8" cy="8" r="5.8" />
    <path d="M8 4.6V8l2.4 1.6" />
  </>,
);
