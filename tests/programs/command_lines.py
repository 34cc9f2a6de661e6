"""Command lines on which our programs and coreutils are compared: options, and what they are applied to.

One per line, for a shell to split and expand; an empty line is a command line without any.
"""

from __future__ import annotations

LS = r"""
-a
-A
-B
-i
-s
-sh
-s --si
-r
-R
-d
-1
-F
-p
--file-type
-b
-Q
-q
-qQ
-N
-X
-v
-lrv
-S
-t
-c
-u
-tr
-Sr
--sort=width
--sort=version
--sort=none -d
-L
-H
-FL
-iL
--group-directories-first
--group-directories-first -F
--indicator-style=classify
--classify
--classify=never
-l
-la
-lA
-ld
-lF
-lp
-lh
-l --si
-lk
-ls
-lsh
-li
-lisa
-ln
-lR
-laR
-lL
-lLF
-lH
-lt
-ltr
-lS
-lu
-lc
-ltu
-lX
-lG
-g
-o
-go
-lQ
-lb
-lq
--full-time
-l --time-style=iso
-l --time-style=long-iso
-l --time-style=full
-l --time-style=+%s
-l --time-style=posix-iso
-l --time=birth
-l --time=use
-lrt --group-directories-first
-f -l -r --sort=name
-lfd
-l '--time-style=+%a %A %b %B %c %C %d %D %e %F %H %I %j %k %l %m %M %n %N %p %r %R %s %S %t %T %u %w %x'
-l '--time-style=+%X %y %Y %z %Z %% %-d %_d %0e %-m %_H %-j %_j %-N %!'
-Y
-lY
--nothing
--al
--all=yes
--sort
--sort=
--sort=length
--time=never
--s=x
--time-style=x -l
--time-style= -l
--time-style=l -l
--indicator-style=x
--classify=x""".split("\n")

LS_PLACES = r"""
.
kinds
odd sizes
dates
deep
kinds/link kinds/to_directory kinds/nowhere kinds/pipe empty
kinds/to_directory
nothing kinds/nothing
nothing deep
deep/ empty ./deep
kinds/loop kinds/mode0000
odd/* kinds
/dev/null .dot/../empty
kinds/loop/x deep/z/""".split("\n")

CAT = r"""
-n
-b
-s
-A
-v
-E
-T
-e
-t
-u
-bE
-sn
-snb
-ET
-nx
--foo
--num""".split("\n")

CAT_PLACES = r"""text/a
text/a text/b text/a
text/r1 text/r2 text/r3
text/all text/a
nothing deep text/a odd/*
kinds/loop
-

- text/a
text/none text/a
deep/z/x 'a:b' -- -dash
text/blank text/blank text/r2""".split("\n")

STAT = r"""
-t
-L
-Lt
-c %n
-c %N
-c '%%%n%'
-c '%10N|%-20N|%.3n|%-10.3n|%N'
-c '%10N'
-c '%a %#a %05a %-8a| %8a %.5a %08.5a'
-c '%f %#f %#12f %-#12f| %#012f'
-c '%A|%15A|%-15A|%.4A'
-c '%F|%25F|%-25F|%.2F'
-c '%u %g %U %G|%10U|%-10G|%5u|%-5g|%05u'
-c '%s %b %B %o %h %i'
-c '%d %D %Hd %Ld %#D'
-c '%t %T %r %R %Hr %Lr %#t %#T %#R'
-c '%w %W %x %X %y %Y %z %Z'
-c '%.3X %.Y %.0Z %.20W'
-c '%012.3Y %12.3Y %14.3Y %15.3Y %16.3Y %020.3Y %-20.3Y| %-12.3Y| %13.Y| %-30.Y|'
-c '%2.1Y %015.1Y %15.1Y %10.1Y %11.1Y %12.1Y %3.1Y %4.3Y %30.12Y| %-30.12Y| %25.12Y|'
-c '%+Y % 5.2X %0+20.3Y %+15Y|%-15Y|%015Y'
-c '%+d % d %I h %5h %05h %'
-c '%C %q %Hq %Ls %H %L'
-c '%10.3x|%.10y|%40z'
-c '%5%'
-c 'a%5'
-c 'a\nb'
--printf 'a\tb\n\x41\101\q%n\c\"\\'
--printf '%n\'
--printf '\e\0012\777\x4\xg\x'
--format %n --printf '%s\n'
-c
--form
-x
--foo""".split("\n")

STAT_PLACES = r"""kinds/* dates/*
odd/*
nothing kinds/loop deep/z/x empty

sizes/* .""".split("\n")

SHA = r"""
-b
-t
-bt
--tag
--tag -b
-z
-z --tag
-bz
--tag -t
-t --tag
--quiet
--status
--warn
--strict
--ignore-missing
--foo
--st
-x""".split("\n")

SHA_PLACES = r"""text/*
odd/*
nothing deep kinds/loop text/a

-
- text/a -
deep/z:x 'a b'""".split("\n")

CHECK = r"""-c
-c -w
-c --strict
-c --quiet
-c --status
-c --ignore-missing
-c --quiet --ignore-missing
-c --status -w
-c -w --status
-c -w --strict --quiet
-cz
-c --tag
-c -b
-ct
-c --ignore-missing --status""".split("\n")

CHECK_PLACES = r"""sums/usual
sums/mixed
sums/tagged
sums/crlf
sums/reversed
sums/none
sums/comments
sums/missing
sums/usual sums/mixed
nothing sums/usual
deep

-""".split("\n")
