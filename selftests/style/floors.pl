#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# floors.pl includes | symbols DIR | rings DIR: what reaches up in kmod/, by #include lines or by the symbols
# that each object under DIR defines and needs, and the rings that go through more than one room; or any
# ring among the objects of DIR, a program's.
#
# A file is on a floor by its folder, in kmod/ itself by its name. It may use its own floor and those below.
# See docs/architecture.md, which has the picture.
use strict;
use warnings;

my @floors = (
	[qw(core host)],			# 0, the ground
	[qw(mem)],
	[qw(io)],
	[qw(irqchip)],
	[qw(pv)],
	[qw(cpu)],
	[qw(svm vmx), 'run', 'exit'],
	['main', 'dev', 'vm', 'vcpu', 'stats', 'snapshot', 'template', 'frozen', 'record', 'lodge'],
);
my %floor;
for my $n (0 .. $#floors) { $floor{$_} = $n for @{$floors[$n]} }

# The room of a file, and its floor.
sub room {
	my ($path) = @_;
	return $1 if $path =~ m{^kmod/(\w+)/};
	return $1 if $path =~ m{^kmod/(\w+)\.\w+$};
	return undef;
}

sub floor_of {
	my ($path) = @_;
	my $room = room($path);
	if (!defined $room || !defined $floor{$room}) {
		print "$path: on no floor\n";
		return undef;
	}
	return $floor{$room};
}

# Files of one folder may form a ring: a room is one thing. Those of kmod/ itself too.
sub folder { return $_[0] =~ m{^(kmod/\w+)/} ? $1 : 'kmod' }

# rings(\%edges, \&group): the strongly connected parts of more than one group (Tarjan).
sub rings {
	my ($edges, $group) = @_;
	my (%index, %low, %on, @stack, @found);
	my $n = 0;
	my $visit;
	$visit = sub {
		my ($v) = @_;
		$index{$v} = $low{$v} = $n++;
		push @stack, $v;
		$on{$v} = 1;
		for my $w (sort keys %{$edges->{$v} // {}}) {
			if (!defined $index{$w}) {
				$visit->($w);
				$low{$v} = $low{$w} if $low{$w} < $low{$v};
			} elsif ($on{$w}) {
				$low{$v} = $index{$w} if $index{$w} < $low{$v};
			}
		}
		return if $low{$v} != $index{$v};
		my @part;
		while (1) {
			my $w = pop @stack;
			delete $on{$w};
			push @part, $w;
			last if $w eq $v;
		}
		my %groups = map { $group->($_) => 1 } @part;
		push @found, [sort @part] if keys %groups > 1;
	};
	for my $v (sort keys %$edges) { $visit->($v) if !defined $index{$v} }
	return @found;
}

# report(\%edges): an edge's value says what it is.
sub report {
	my ($edges) = @_;
	for my $from (sort keys %$edges) {
		my $f = floor_of($from);
		for my $to (sort keys %{$edges->{$from}}) {
			my $t = floor_of($to);
			next if !defined $f || !defined $t || $t <= $f;
			print "$from reaches up to $to: $edges->{$from}{$to}\n";
		}
	}
	for my $ring (rings($edges, \&folder)) {
		printf "a ring of %d across folders: %s\n", scalar @$ring, join(' ', @$ring);
	}
}

sub includes {
	my %edges;
	for my $file (sort grep { -f } map { chomp; $_ } `git ls-files -co --exclude-standard kmod`) {
		next if $file !~ /\.[chS]$/;
		my $dir = $file =~ s{/[^/]*$}{}r;
		open(my $in, '<', $file) or die "$file: $!\n";
		while (my $line = <$in>) {
			next if $line !~ /^\s*#\s*include\s+"([^"]+)"/;
			my $name = $1;
			my ($to) = grep { -f } "$dir/$name", "kmod/$name", $name;
			if (!defined $to) { print "$file: \"$name\" is not found\n"; next }
			1 while $to =~ s{[^/]+/\.\./}{};
			next if $to !~ m{^kmod/};
			$edges{$file}{$to} = "#include \"$name\"" if $to ne $file;
			$edges{$to} //= {};
		}
	}
	report(\%edges);
}

# needs(DIR, OBJECT...): who needs what of whom, by nm.
sub needs {
	my ($dir, @objects) = @_;
	my (%home, %needs, %edges);
	die "no objects in $dir\n" if !@objects;
	for my $o (@objects) {
		for (`nm $dir/$o`) {
			next if !/^[0-9a-f ]{16} (\w) (\S+)$/;
			my ($type, $symbol) = ($1, $2);
			if ($type eq 'U') { $needs{$o}{$symbol} = 1 }
			elsif ($type ge 'A' && $type le 'Z') { $home{$symbol} = $o }
		}
	}
	for my $o (@objects) {
		$edges{$o} = {};
		for my $symbol (sort keys %{$needs{$o} // {}}) {
			my $to = $home{$symbol} or next;
			$edges{$o}{$to} = defined $edges{$o}{$to} ? "$edges{$o}{$to} $symbol" : $symbol if $to ne $o;
		}
	}
	return \%edges;
}

# An object whose source is gone is left over from before.
sub objects {
	my ($dir, $below) = @_;
	return grep { my $base = s/\.o$//r; -e "$dir/$base.c" || -e "$dir/$base.S" }
		sort split /\n/, `cd $dir && find $below -name '*.o'`;
}

sub program_rings {
	my ($dir) = @_;
	for my $ring (rings(needs($dir, objects($dir, '.')), sub { $_[0] })) {
		printf "%s: a ring: %s\n", $dir, join(' ', @$ring);
	}
}

my $what = shift // '';
if ($what eq 'includes') { includes() }
elsif ($what eq 'symbols' && @ARGV == 1) { report(needs($ARGV[0], objects($ARGV[0], 'kmod'))) }
elsif ($what eq 'rings' && @ARGV == 1) { program_rings(@ARGV) }
else { die "usage: floors.pl includes | symbols DIR | rings DIR\n" }
