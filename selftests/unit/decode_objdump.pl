#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# decode_objdump.pl LISTER DIR: compares the decoder with binutils' disassembler, in TAP.
#
# LISTER (decode_list) writes a corpus and what the decoder says; objdump reads the same bytes, and
# its text is taken apart into the same fields. Two ways a slot is wrong: the decoder knows the
# instruction and differs from objdump in any field, or objdump shows one of the forms that the
# decoder should know and it does not.
use strict;
use warnings;

my ($lister, $dir) = @ARGV;
my $SLOT = 32;
my %bytes = (BYTE => 1, WORD => 2, DWORD => 4, FWORD => 6, QWORD => 8, TBYTE => 10, XMMWORD => 16, OWORD => 16, YMMWORD => 32);
my %prefix = map { $_ => 1 } qw(lock rep repz repnz repe repne data16 data32 addr16 addr32 cs ds es ss fs gs
	xacquire xrelease bnd notrack);
my %known = map { $_ => 1 } qw(mov movzx movsx movbe sse movs stos lods add or adc sbb and sub xor cmp test inc
	dec not neg xchg xadd cmpxchg bt bts btr btc push pop cmovo cmovno cmovb cmovae cmove cmovne cmovbe
	cmova cmovs cmovns cmovp cmovnp cmovl cmovge cmovle cmovg rol ror rcl rcr shl shr sar shld shrd mul imul
	div idiv bsf bsr tzcnt lzcnt popcnt mmx xlat cmps scas cmpxchgb cache fnstcw fnstsw stmxcsr ldmxcsr
	sldt str smsw sgdt sidt les lds lss lfs lgs call jmp ret leave
	seto setno setb setae sete setne setbe seta sets setns setp setnp setl setge setle setg);
my %cache = map { $_ => 1 } qw(clflush clflushopt clwb);
my %sse = map { $_ => 1 } qw(movups movupd movss movsd movaps movapd movntps movntpd movd movq movdqa movdqu
	movntdq movntdqa lddqu movlps movlpd movhps movhpd);
my %mmx = map { $_ => 1 } qw(movd movq movntq);
my (%size, @plain);
for my $r (qw(ax cx dx bx sp bp si di)) {
	@size{"r$r", "e$r", $r} = (8, 4, 2);
}
$size{$_} = 1 for qw(al cl dl bl spl bpl sil dil ah ch dh bh);
for my $n (8 .. 15) {
	@size{"r$n", "r${n}d", "r${n}w", "r${n}b"} = (8, 4, 2, 1);
}
@size{"xmm$_", "ymm$_"} = (16, 32) for 0 .. 15;
# Registers in an address that show that it is not of the mode's own size.
my %other_width = (16 => qr/\be[a-ds]\w\b|\beiz/, 32 => qr/\b([bs][pix]|di)\b/,
	64 => qr/\be[a-ds]\w\b|\be[bi]p\b|\beiz|\br\d+d/);

# A number as objdump writes it, with a sign or without, cut to so many bytes.
sub number {
	my ($text, $size) = @_;
	no warnings 'portable';
	my ($sign, $hex) = $text =~ /^([-+]?)0x([0-9a-f]+)$/ or die "number '$text'\n";
	my $value = hex($hex);
	$value = $sign eq '-' ? ~$value + 1 : $value if $sign eq '-';
	$value &= (1 << 8 * $size) - 1 if $size < 8;
	return sprintf('%x', $value);
}

# "[base+index*scale+disp]" or "seg:disp" as base,index*scale,disp; and its default segment.
sub address {
	my ($text, $bits, $addr32) = @_;
	my ($base, $index, $disp) = ('', '', '0x0');
	my $width = $bits == 64 ? ($addr32 ? 4 : 8) : ($bits == 16) == !!$addr32 ? 4 : 2;
	if ($text =~ /^\[(.*)\]$/) {
		my @terms = $1 =~ /([-+]?[^-+]+)/g;
		for my $t (@terms) {
			if ($t =~ /0x/ && $t !~ /\*/) { $disp = $t; next }
			$t =~ s/^\+//;
			if ($t =~ /^[er]iz/) { next }
			if ($t =~ /\*/) { $index = $t }
			elsif ($t =~ /^[re]ip$/) { $base = $t }
			elsif ($base ne '') { $index = "$t*1" }
			else { $base = $t }
		}
	} else {
		$disp = $text;
	}
	my $seg = $base =~ /^[er]?(sp|bp)$/ ? 'ss' : 'ds';
	return ($base . ',' . $index . ',' . number($disp, $width), $seg, $width);
}

# objdump's text as the lister's fields; nothing if it is no form that should be known.
sub canonical {
	my ($text, $len, $bits) = @_;
	$text =~ s/\s*#.*//;
	return if $text =~ /\(bad\)|\?/;
	my @words = split ' ', $text;
	my (%has, $seg, $hidden);
	# What 64-bit code ignores does not hide an FS or GS before it, though objdump thinks so.
	while (@words && ($prefix{$words[0]} || $words[0] =~ /^rex/)) {
		$hidden = $words[0] if $bits == 64 && $words[0] =~ /^[fg]s$/;
		$has{shift @words} = 1;
	}
	return if !@words;
	my $name = shift @words;
	my $args = join(' ', @words);
	# With 66 the operand of MOVSXD has 16 bits (SDM), whatever objdump writes.
	# A far pointer for a register of 64 bits has ten (SDM), too.
	$args =~ s/[FD]WORD/TBYTE/ if $name =~ /^l[sfg]s$/ && $size{$args =~ s/,.*//r} == 8;
	$args =~ s/DWORD/WORD/ if $name eq 'movsxd' && $size{$args =~ s/,.*//r} == 2;
	$name =~ s/^movsxd$/movsx/;
	$name =~ s/^(movabs|movnti)$/mov/;
	$name = 'mmx' if $mmx{$name} && $args =~ /\bmm\d/;
	my $vex = $name =~ s/^v(?=mov|lddqu)// && $args =~ /[xy]mm/;
	return if $vex && ($args =~ /mm\d+,[xy]mm/ || %has);
	$name = 'sse' if $sse{$name} && $args =~ /[xy]mm/;
	$name = 'cache' if $cache{$name};
	$name =~ s/^cmpxchg(8|16)b$/cmpxchgb/;
	# Forms whose memory is the stack, and jumps, of which objdump does not say whether they are near.
	$name =~ s/^(pusha|popa|pushf|popf|push|pop|call|ret|leave)[wdq]$/$1/ if $args !~ /[\[:]/;
	my $stack = $name =~ /^(pusha|popa|pushf|popf|push|pop|call|ret|leave)$/ && $args !~ /\[|:|\b[ecsdfg]s\b/;
	return $has{lock} ? 'undefined' : "stack|$len|$name" if $stack;
	return $has{lock} ? 'undefined' : "jump|$len" if $name =~ /^(call|jmp)$/ && $args =~ /[\[:]/;
	$name =~ s/^(s[gi]dt)[wd]$/$1/;
	return if !$known{$name} || $args !~ /[\[:]/;
	my ($sreg) = $name eq 'mov' ? $args =~ /,([ecsdfg]s)$/ : ();
	$args =~ s/,\K$sreg$/ax/ if $sreg;
	# MOV to a segment register; its memory has two bytes, whatever is written.
	$args =~ s/^$sreg,(?:\w+ PTR )?/ax,WORD PTR / if $name eq 'mov' && !$sreg && (($sreg) = $args =~ /^([esdfg]s),/);
	return if $args =~ /\b([ecsdfg]s(,|$)|[cdt]r\d|k\d|zmm|st\b)/ || $args =~ /,[ecdsfg]s$/;
	# An SSE move with an F2 or F3 that is no part of it: undefined.
	return 'undefined' if $name eq 'sse' && $args =~ /XMMWORD/ && ($has{repz} || $has{repnz});
	return 'undefined' if $name =~ /^(ldmxcsr|stmxcsr|cache)$/ && ($has{repz} || $has{repnz} || $has{data16} || $has{data32});
	# LOCK must have memory to change, which is then the first operand: else the decoder refuses.
	my $lock = $has{lock} ? 'lock' : '';
	return '-3' if $lock && ($args !~ /^\w+ PTR/ || $name !~
		/^(add|or|adc|sbb|and|sub|xor|inc|dec|not|neg|xchg|xadd|cmpxchgb?|bt[src])$/);
	my $string = $name =~ /^(movs|stos|lods|cmps|scas)$/;
	my $rep = $string && ($has{rep} || $has{repz} || $has{repnz}) ? 'rep' : '';
	# The memory operand and the other one.
	my ($mem, $other, $size) = ('') x 3;
	my $third;
	for my $arg (split /,(?![^\[]*\])/, $args) {
		my ($ptr, $s, $m) = $arg =~ /^(?:(\w+) PTR )?(?:([ecsdfg]s):)?(\[.*\]|0x.*)$/;
		if (defined $m && ($ptr || $s || $m =~ /^\[/)) {
			$size = $bytes{$ptr} if $ptr;
			($seg, $mem) = ($s, $m) if $name ne 'cmps' || $mem eq '';	# of MOVS the second: the source
		} elsif ($other ne '') {
			$third = $arg;
		} else {
			$other = $arg;
		}
	}
	return if $mem eq '';
	if ($string) {
		my ($reg) = $mem =~ /(\w+)/;
		$seg = $hidden || 'ds' if $bits == 64 && $seg !~ /[fg]s/ && $name !~ /^(stos|scas)$/;
		return join('|', 0, $len, $name, $lock, $rep, $seg, $size{$reg}, $size || $size{$other}, '', '');
	}
	my $addr32 = $has{addr32} || $has{addr16} || $mem =~ $other_width{$bits};
	my ($address, $default) = address($mem, $bits, $addr32);
	$seg = $hidden if $bits == 64 && (!$seg || $seg !~ /^[fg]s$/);
	# Where there is no register objdump always writes a segment, DS if there is no other.
	$seg = $default if !$seg;
	my ($reg, $imm) = ('', '');
	if ($other =~ /^0x/) {
		$imm = number($other, $size);
	} else {
		$reg = $other;
	}
	if (defined $third) {
		$imm = $third =~ /^0x/ ? number($third, $name eq 'imul' ? $size : 1) : $third;
	} elsif ($name =~ /^(ro|rc|sh|sa)[lr]$/) {
		($reg, $imm) = ('', $other =~ /^0x/ ? number($other, 1) : $other eq '' ? 1 : $other);
	}
	$reg = $sreg if $sreg;
	$size = $bits == 64 ? 10 : 6 if $name =~ /^s[gi]dt$/;
	$size ||= $reg =~ /ymm/ ? 32 : 16 if $name eq 'sse';
	$size ||= $size{$reg};
	return join('|', 0, $len, $name, $lock, $rep, $seg, $address, $size, $reg, $imm);
}

# The first instruction of each slot: its text and length. A line of nothing but prefixes goes on.
sub disassemble {
	my ($file, $machine) = @_;
	my (@text, @len, $open);
	open(my $in, '-|', 'objdump', '-D', '-b', 'binary', '-M', 'intel', '-m', split(' ', $machine), '-z',
		'--insn-width=16', $file) or die "objdump: $!\n";
	while (my $line = <$in>) {
		my ($at, $hex, $text) = $line =~ /^\s*([0-9a-f]+):\t([0-9a-f ]+?)\s*(?:\t(.*))?$/ or next;
		my $slot = int(hex($at) / $SLOT);
		next if hex($at) % $SLOT && !($open && $slot == $#text);
		$text = '' if !defined $text;
		if (hex($at) % $SLOT == 0) { $text[$slot] = ''; $len[$slot] = 0 }
		$text[$slot] .= " $text";
		$len[$slot] += () = $hex =~ /[0-9a-f]{2}/g;
		$open = 1;
		for my $word (split ' ', $text) { $open = 0 if !$prefix{$word} && $word !~ /^rex/ }
	}
	close($in) or die "objdump failed\n";
	return (\@text, \@len);
}

sub compare {
	my ($bits, $machine) = @_;
	my $file = "$dir/corpus.$bits";
	my ($slot, $known, $bad) = (0, 0, 0);
	open(my $list, '-|', $lister, $bits, $file) or die "$lister: $!\n";
	my @list = <$list>;
	close($list) or die "$lister failed\n";
	my ($text, $len) = disassemble($file, $machine);
	open(my $raw, '<:raw', $file) or die "$file: $!\n";
	for my $ours (@list) {
		chomp $ours;
		read($raw, my $code, $SLOT) == $SLOT or die "$file is too short\n";
		my $theirs = canonical($text->[$slot], $len->[$slot], $bits);
		my $ok = defined $theirs ? agree($ours, $theirs) : $ours !~ /^0/;
		$known++ if $ours =~ /^0/;
		if (!$ok && $bad++ < 10) {
			print '# ', unpack('H30', $code), ": decoder '$ours', objdump '$text->[$slot]' (",
				defined $theirs ? $theirs : 'unknown', ")\n";
		}
		$slot++;
	}
	print "# $bits-bit code: $slot instructions, $known of them known, $bad differ\n";
	return !$bad && $known > 5000;
}

# What objdump does not know: instructions are not longer than 15 bytes.
sub agree {
	my ($ours, $theirs) = @_;
	my @f = split /\|/, $theirs, -1;
	my @o = split /\|/, $ours;
	return $ours eq '0|' . join('|', @f[1, 2]) || ($ours =~ /^-[23]/ && $f[2] =~ /^(call|ret|push|pop)$/) if $f[0] eq 'stack';
	return $ours !~ /^0/ ? $ours ne '-1' : $o[1] == $f[1] if $f[0] eq 'jump';
	return $ours eq $theirs || ($theirs eq 'undefined' && $ours ne '-1') || ($ours eq '-3' && @f > 1 && $f[1] > 15);
}

my $failed = 0;
my @modes = ([16, 'i8086'], [32, 'i386'], [64, 'i386:x86-64']);
if (!grep { -x "$_/objdump" } split /:/, $ENV{PATH}) {
	print "1..0 # SKIP there is no objdump (binutils)\n";
	exit 0;
}
print '1..', scalar @modes, "\n";
my $n = 0;
for my $mode (@modes) {
	my $ok = compare(@$mode);
	$failed++ if !$ok;
	print $ok ? 'ok ' : 'not ok ', ++$n, " - $mode->[0]-bit code as the disassembler reads it\n";
}
exit($failed ? 1 : 0);
