"""The one ffmpeg command that makes every output of a plan in a single decode of the source."""

from __future__ import annotations

from paletta_server.ingest.plan import THUMB_WIDTH, OutputPlan, Posters, Preview, Rendition, Storyboard, fit
from paletta_server.ingest.probe import SOUND_CODECS, MediaLimits, Probe
from paletta_server.ingest.sandbox import SOURCE

WATERMARK = "watermark.rgba"
CUTS = "cuts.txt"
POSTER_PREFIX = "poster-"
POSTER_CLOCK = 1000  # the number in a candidate's name is its time in milliseconds

CUT_THRESHOLD = (
    10  # scdet's score, in percent of change: found the cuts of an edited clip and none in single takes
)

_FIND_CUTS = f"scdet=threshold={CUT_THRESHOLD},metadata=mode=print:key=lavfi.scd.time:file={CUTS}"

_PREVIEW_PRESET = "veryfast"  # a comp is looked at once or twice; its size is capped by maxrate anyway
_LARGEST_BLOCK = (
    268_435_456  # bytes in one allocation; a 36-megapixel frame of 16-bit 4:4:4:4 is 288 MB and refused
)


def arguments(probe: Probe, plan: OutputPlan, limits: MediaLimits, *, threads: int) -> list[str]:
    """ffmpeg's arguments. It reads `SOURCE` and `WATERMARK` and writes into its working directory."""
    command = _head(probe, limits, threads)
    comp = plan.comp
    command += ["-f", "rawvideo", "-pixel_format", "rgba", "-video_size", f"{comp.width}x{comp.height}"]
    command += ["-i", f"file:{WATERMARK}", "-filter_complex", graph(probe, plan)]
    for rendition in plan.renditions:
        command += _rendition_output(rendition, probe, threads)
    command += _preview_output("comp", comp, probe, threads)
    command += _preview_output("loop", plan.loop, probe, threads)
    command += ["-map", "[posters]", *_BARE, "-c:v", "mjpeg", "-q:v", "3", "-fps_mode", "passthrough"]
    command += [
        "-enc_time_base",
        f"1/{POSTER_CLOCK}",
        "-f",
        "image2",
        "-frame_pts",
        "1",
        f"{POSTER_PREFIX}%d.jpg",
    ]
    command += ["-map", "[board]", *_BARE, "-c:v", "mjpeg", "-q:v", "5", "-fps_mode", "passthrough"]
    return [*command, "-f", "image2", "-update", "1", "-frames:v", "1", plan.storyboard.name]


def checkup_arguments(probe: Probe, limits: MediaLimits, *, threads: int) -> list[str]:
    """The same decode without outputs: the picture is only watched for cuts, at the storyboard's size."""
    width, height = fit(probe.video.width, probe.video.height, (THUMB_WIDTH, THUMB_WIDTH))
    seen = f"[0:{probe.video.number}]scale={width}:{height}:flags=area,{_FIND_CUTS}[seen]"
    command = [*_head(probe, limits, threads), "-filter_complex", seen]
    return [*command, "-map", "[seen]", "-fps_mode", "passthrough", "-f", "null", "-"]


def loop_arguments(loop: Preview, *, rate: float, divisor: int, threads: int) -> list[str]:
    """Cuts the loop out of our own comp, `SOURCE`, whose frames come `rate` times a second, every `divisor`th taken."""
    thin = f"select='not(mod(n,{divisor}))'" if divisor > 1 else "null"
    cut = f"trim=start={loop.start:.3f}:duration={loop.seconds:.3f},setpts=PTS-STARTPTS"
    chain = f"[0:v:0]{cut},{thin},scale={loop.width}:{loop.height}:flags=bicubic,setsar=1[loop]"
    command = ["-nostdin", "-hide_banner", "-loglevel", "error", "-max_alloc", str(_LARGEST_BLOCK)]
    command += [
        "-protocol_whitelist",
        "file",
        "-format_whitelist",
        "mov",
        "-codec_whitelist",
        "h264",
        "-f",
        "mov",
    ]
    command += ["-threads", str(threads), "-i", f"file:{SOURCE}", "-filter_complex", chain]
    return command + _encoded("loop", loop, round(2 * rate / divisor), threads)


def _head(probe: Probe, limits: MediaLimits, threads: int) -> list[str]:
    command = ["-nostdin", "-hide_banner", "-loglevel", "repeat+level+verbose", "-progress", "pipe:1"]
    command += [
        "-stats_period",
        "0.5",
        "-benchmark",
        "-max_alloc",
        str(_LARGEST_BLOCK),
        "-filter_complex_threads",
        str(threads),
    ]
    return command + _input(probe, limits, threads)


def _input(probe: Probe, limits: MediaLimits, threads: int) -> list[str]:
    """The source, opened as nothing but what `sniff` saw, with nothing but the listed decoders."""
    options = ["-threads", str(threads), "-protocol_whitelist", "file", "-format_whitelist", "mov,mxf"]
    options += [
        "-codec_whitelist",
        ",".join((*limits.codecs, *SOUND_CODECS)),
        "-max_pixels",
        str(limits.max_pixels),
    ]
    options += ["-probesize", "10M", "-analyzeduration", "10M", "-max_streams", "16"]
    if probe.demuxer == "mov":
        options += ["-enable_drefs", "0", "-use_absolute_path", "0"]
    # One second above the limit: a longer film was refused by the gate, a lying one stops here.
    return [*options, "-f", probe.demuxer, "-t", f"{limits.max_seconds + 1:g}", "-i", f"file:{SOURCE}"]


def graph(probe: Probe, plan: OutputPlan) -> str:
    """The filter graph. Previews are scaled from the smallest rendition: a 4K picture is scaled down once."""
    steps: list[str] = []
    head = f"[0:{probe.video.number}]"
    clean = ["bwdif=mode=send_frame:deint=interlaced"] if plan.deinterlace else []
    parents = sorted(plan.renditions, key=lambda made: -made.width)
    source = head
    if clean:
        steps.append(f"{head}{','.join(clean)}[clean]")
        source = "[clean]"
    for rendition in parents:
        tone = [_TONE_MAP] if plan.tone_map and rendition is parents[0] else []
        chain = ",".join([_scale(rendition.width, rendition.height), *tone, "format=yuv420p", "setsar=1"])
        steps.append(f"{source}{chain},split=2[out_{rendition.tier}][from_{rendition.tier}]")
        source = f"[from_{rendition.tier}]"
    # Posters are few: they keep the full picture, the rest is worked on at comp size.
    tone = [_TONE_MAP] if plan.tone_map and not parents else []
    comp = plan.comp
    steps.append(f"{source}split=2[for_posters][for_base]")
    steps.append(f"[for_posters]{_poster_chain(plan.posters, tone)}[posters]")
    base = ",".join([_scale(comp.width, comp.height), *tone, "format=yuv420p", "setsar=1"])
    steps.append(f"[for_base]{base},split=2[for_comp][for_board]")
    steps.append("[1:v]format=yuva420p[mark]")
    steps.append("[for_comp][mark]overlay=eof_action=repeat:format=yuv420,split=2[marked_comp][marked_loop]")
    steps.append(f"[marked_comp]{_thin(comp)}[comp]")
    loop = plan.loop
    window = f"trim=start={loop.start:.3f}:duration={loop.seconds:.3f},setpts=PTS-STARTPTS"
    steps.append(f"[marked_loop]{window},{_thin(loop)},{_scale(loop.width, loop.height)}[loop]")
    steps.append(f"[for_board]{_board_chain(plan.storyboard)}[board]")
    return ";".join(steps)


# Linear light, to the BT.709 gamut, then Hable's curve: keeps highlights readable; reference white of
# BT.2408.
_TONE_MAP = (
    "zscale=transfer=linear:npl=203,format=gbrpf32le,zscale=primaries=bt709,tonemap=hable:desat=0"
    ",zscale=transfer=bt709:matrix=bt709:range=tv"
)
# No metadata of the contributor's device (place, serial numbers), no chapters, no other streams.
_BARE = ["-map_metadata", "-1", "-map_chapters", "-1", "-sn", "-dn"]


def _scale(width: int, height: int) -> str:
    """Also to video range: players show the full range of a Photo-JPEG film too dark or too bright."""
    return f"scale={width}:{height}:flags=bicubic:out_range=tv"


def _thin(preview: Preview) -> str:
    divisor = preview.rate_divisor
    return "null" if divisor == 1 else f"select='not(mod(n,{divisor}))'"


def _crossing(at: float) -> str:
    """True for the first frame at or after `at` seconds (with half a millisecond for rounded time stamps)."""
    at -= 0.0005
    return f"gte(t,{at:.4f})*not(gte(prev_pts*TB,{at:.4f}))"


def _poster_chain(posters: Posters, tone: list[str]) -> str:
    wanted = "+".join(_crossing(at) for at in posters.times)
    return ",".join([f"select='{wanted}'", *tone, _jpeg(posters.width, posters.height)])


def _board_chain(board: Storyboard) -> str:
    """Small frames of the whole film: watched for cuts, and one each interval laid into the sprite."""
    every = (
        f"isnan(prev_pts)+gt(floor((t+0.0005)/{board.interval}),floor((prev_pts*TB+0.0005)/{board.interval}))"
    )
    return (
        f"scale={board.width}:{board.height}:flags=area,{_FIND_CUTS},select='{every}'"
        f",{_jpeg(board.width, board.height)},tile={board.columns}x{board.rows}"
    )


def _jpeg(width: int, height: int) -> str:
    """JPEG files are full range and BT.601, whatever the film is."""
    return (
        f"scale={width}:{height}:flags=bicubic:out_range=pc:out_color_matrix=bt601,format=yuvj420p,setsar=1"
    )


def _preview_output(label: str, preview: Preview, probe: Probe, threads: int) -> list[str]:
    return _encoded(label, preview, round(2 * probe.video.fps / preview.rate_divisor), threads)


def _encoded(label: str, preview: Preview, keyframes: int, threads: int) -> list[str]:
    return [
        *("-map", f"[{label}]", *_BARE, "-an", "-c:v", "libx264", "-preset", _PREVIEW_PRESET),
        *(
            "-crf",
            str(preview.crf),
            "-maxrate",
            f"{preview.max_kbps}k",
            "-bufsize",
            f"{2 * preview.max_kbps}k",
        ),
        *(
            "-g",
            str(max(1, keyframes)),
            "-threads",
            str(threads),
            "-fps_mode",
            "vfr",
            "-movflags",
            "+faststart",
        ),
        *("-f", "mp4", preview.name),
    ]


def _rendition_output(rendition: Rendition, probe: Probe, threads: int) -> list[str]:
    options = ["-map", f"[out_{rendition.tier}]", *_BARE, "-c:v", "libx264", "-preset", rendition.preset]
    options += [
        "-crf",
        str(rendition.crf),
        "-g",
        str(max(1, round(2 * probe.video.fps))),
        "-threads",
        str(threads),
    ]
    options += ["-fps_mode", "vfr", "-movflags", "+faststart+write_colr"]
    if rendition.audio == "copy":
        options += ["-map", "0:a:0", "-c:a", "copy"]
    elif rendition.audio == "aac":
        # 96 kb/s a channel is past the point where listeners hear a difference.
        options += ["-map", "0:a:0", "-c:a", "aac", "-b:a", f"{96 * max(1, probe.audio[0].channels)}k"]
    else:
        options.append("-an")
    return [*options, "-f", "mp4", rendition.name]
