"""`completion`: a script for the shell, which knows commands and options, and asks this command for URIs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import Template

from .arguments import COMMANDS, build
from .exits import UsageError
from .invocation import Invocation

# Options whose values decide which store is asked.
STORE = ("--endpoint-url", "--profile", "--region", "--ca-bundle", "--addressing-style")
# Of a folder with a great many objects, only the first page is offered.
PATIENCE = 3.0


def completion(invocation: Invocation) -> None:
    """Prints the script, or the URIs that begin as given; nothing where the store does not say."""
    options = invocation.options
    if (options.shell is None) == (options.uris is None):
        raise UsageError("name a shell: s3dlio completion bash, zsh or fish")
    if options.shell is not None:
        invocation.report.console.data(script(options.shell), end="")
        return
    options.timeout, options.max_attempts = options.timeout or PATIENCE, options.max_attempts or 1
    try:
        for uri in _beginning(invocation, options.uris):
            invocation.report.console.data(uri)
    except Exception as error:
        if options.debug:
            raise
        del error  # a shell has no place to show it


def _beginning(invocation: Invocation, text: str) -> Iterator[str]:
    bucket, slash, key = text.removeprefix("s3://").partition("/")
    if not text.startswith("s3://"):
        return
    if not slash:
        for found in invocation.client.list_buckets():
            if found.name.startswith(bucket):
                yield f"s3://{found.name}/"
        return
    glob = re.sub(r"[*?\[]", lambda one: f"[{one[0]}]", key) + "*"
    objects = invocation.client.iter_objects(f"s3://{bucket}/{glob}", recursive=False)
    for page in objects.pages():
        yield from (one for one in page.prefixes if one.startswith(text))
        yield from (one.uri for one in page.objects)
        objects.close()


def script(shell: str) -> str:
    """The script of a shell."""
    parser = build()
    names = " ".join(COMMANDS)
    if shell == "fish":
        return "\n".join(_fish()) + "\n"
    cases = "\n".join(
        f"        {name}) options='{' '.join(sorted(one.options))}' ;;" for name, one in parser.commands.items()
    )
    template = Template(BASH if shell == "bash" else ZSH)
    return template.substitute(
        commands=names, cases=cases, options=" ".join(sorted(parser.options)), store="|".join(STORE)
    )


BASH = r"""# Completion of s3dlio for bash: source it, or put it into ~/.local/share/bash-completion/completions/s3dlio
_s3dlio() {
    local line="$${COMP_LINE:0:COMP_POINT}" commands='$commands' options='$options'
    local cur="$${line##*[[:space:]]}" command='' word before='' uri
    local -a words store=()
    read -ra words <<< "$$line"
    for word in "$${words[@]:1}"; do
        case "$$before" in $store) store+=("$$before=$$word") ;; esac
        if [[ -z $$command && " $$commands " == *" $$word "* && ( $$word != "$$cur" || $$line == *[[:space:]] ) ]]; then
            command=$$word
        fi
        before=$$word
    done
    case "$$command" in
$cases
    esac
    COMPREPLY=()
    if [[ $$cur == -* ]]; then
        COMPREPLY=($$(compgen -W "$$options" -- "$$cur"))
    elif [[ -z $$command ]]; then
        COMPREPLY=($$(compgen -W "$$commands" -- "$$cur"))
    elif [[ $$cur == s3://* ]]; then
        # bash takes a colon for the end of a word, so what stands before it is there already.
        local there="$${cur%"$${cur##*:}"}"
        [[ $$COMP_WORDBREAKS == *:* ]] || there=''
        while IFS= read -r uri; do
            printf -v uri '%q' "$${uri#"$$there"}"
            COMPREPLY+=("$$uri")
        done < <("$${words[0]}" completion "$${store[@]}" --uris "$$cur" 2>/dev/null)
        compopt -o nospace 2>/dev/null
    elif [[ -n $$cur && s3:// == "$$cur"* ]]; then
        COMPREPLY=(s3://)
        compopt -o nospace 2>/dev/null
    fi
}
complete -o default -F _s3dlio s3dlio
"""

ZSH = r"""#compdef s3dlio
# Completion of s3dlio for zsh: put it into a folder of $$fpath as _s3dlio, or source it after compinit
_s3dlio() {
    local commands='$commands' options='$options' command='' word before=''
    local -a store uris
    for word in "$${(@)words[2,CURRENT-1]}"; do
        case "$$before" in $store) store+=("$$before=$$word") ;; esac
        [[ -z $$command && " $$commands " == *" $$word "* ]] && command=$$word
        before=$$word
    done
    case "$$command" in
$cases
    esac
    case "$$words[CURRENT]" in
        -*) compadd -- $${=options} ;;
        s3://*)
            uris=("$${(@f)$$($$words[1] completion $$store --uris "$${(Q)words[CURRENT]}" 2>/dev/null)}")
            compadd -S '' -- $${uris:#} ;;
        *) if [[ -z $$command ]]; then compadd -- $${=commands}; else compadd -S '' -- s3://; _files; fi ;;
    esac
}
if [[ "$$funcstack[1]" == _s3dlio ]]; then _s3dlio "$$@"; else compdef _s3dlio s3dlio; fi
"""


def _fish() -> Iterator[str]:
    yield "# Completion of s3dlio for fish: put it into ~/.config/fish/completions/s3dlio.fish"
    parser = build()
    for name, (_, summary, _) in COMMANDS.items():
        yield f"complete -c s3dlio -n __fish_use_subcommand -f -a {name} -d '{summary}'"
        condition = f"-n '__fish_seen_subcommand_from {name}'"
        for option in parser.commands[name].options:
            kind = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            yield f"complete -c s3dlio {condition} {kind}"
    asked = "s3dlio completion --uris (commandline -ct) 2>/dev/null"
    yield f"complete -c s3dlio -n 'not __fish_use_subcommand' -a '({asked})'"
